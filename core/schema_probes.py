"""Valid requests made up from a schema: its edges, and between them. Pure and the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from rdv.errors import ConfigError
from rdv.schema_fields import Field, fits, multiples
from rdv.schema_pattern import parse_pattern, sample

if TYPE_CHECKING:
    from rdv.schema import GoalSchema

_TRIES = 300
_TEXTS = (
    "",
    " ",
    "a",
    "0",
    "-1",
    "null",
    "NaN",
    "A b",
    "é",
    "ß",
    "日本",
    "\U0001f600",
    "e\u0301",
    "\u202e",
    "\n",
    "\0",
    "'\"",
)
_NUMBERS = (0.0, 1.0, -1.0, 0.5, 1e-9, 1e9, -1e9, 1e300, -1e300, 5e-324, 2.0**53)


def probes(schema: GoalSchema, seed: int, n: int) -> list[dict[str, Any]]:
    """n valid requests: among the first, every field at each of its edges; then mixtures of edges and other values.

    Raises ConfigError when no value was found for a required field (a pattern and lengths that exclude each other).
    """
    makers = [(field, _maker(field, Random(f"{seed} {field.name}"))) for field in schema.fields]
    rng = Random(f"{seed}")
    made = []
    for at in range(n):
        document = {}
        for field, make in makers:
            value = make(at)
            if value is _ABSENT and field.required:
                raise ConfigError(f"no value was found for the field {field.name}: {field.takes}", "loosen its limits")
            if value is not _ABSENT and (field.required or rng.random() < 0.8):
                document[field.name] = None if field.nullable and rng.random() < 0.1 else value
        made.append(document)
    return made


_ABSENT = object()


def _maker(field: Field, rng: Random) -> Callable[[int], Any]:
    """A function from a probe's number to a value; the first numbers go through the edges, each field's own order."""
    known = edges(field, rng)
    between = _between(field, rng)
    order = rng.sample(known, len(known))

    def make(at: int) -> Any:
        if at < len(order):
            return order[at]
        if order and rng.random() < 0.3:
            return rng.choice(order)
        return between() if between else rng.choice(order) if order else _ABSENT

    return make


def edges(field: Field, rng: Random) -> list[Any]:
    """Values of a field at its limits, and ones that are hard for other reasons; all that there are for an enum."""
    if field.allowed is not None:
        return [_as_kind(field, value) for value in field.allowed]
    if field.kind == "boolean":
        return [False, True]
    if field.kind == "string":
        return _texts(field, rng)
    if field.step:
        least, most = multiples(field)
        counts = {
            least,
            most,
            min(least + 1, most),
            max(most - 1, least),
            *(k for k in (0, 1, -1) if least <= k <= most),
        }
        return [_as_kind(field, k * field.step) for k in sorted(counts)]
    ends = [end for end in (field.low, field.high) if math.isfinite(end)]
    inner = [math.nextafter(field.low, math.inf), math.nextafter(field.high, -math.inf)] if len(ends) == 2 else []
    numbers = [value for value in (*ends, *inner, *_NUMBERS) if math.isfinite(value) and fits(field, value)]
    return list(dict.fromkeys(numbers))


def _between(field: Field, rng: Random) -> Callable[[], Any] | None:
    if field.allowed is not None or field.kind in ("boolean", "string"):
        return None
    if field.step:
        least, most = multiples(field)
        return lambda: _as_kind(field, rng.randint(least, most) * field.step)
    low, high = span(field)
    return lambda: min(max(low + rng.random() * (high - low), low), high)


def span(field: Field) -> tuple[float, float]:
    """The bounds, and where one is missing something of the other's size."""
    low, high = field.low, field.high
    if math.isinf(low) and math.isinf(high):
        return -1e6, 1e6
    if math.isinf(low):
        return high - 2 * abs(high) - 1e6, high
    if math.isinf(high):
        return low, low + 2 * abs(low) + 1e6
    return low, high


def _texts(field: Field, rng: Random) -> list[str]:
    tree = parse_pattern(field.pattern.replace(r"(?!\n)$", "$")).tree
    longest = field.max_length if field.max_length is not None else field.min_length + 40
    found: dict[str, None] = {}
    for text in (*_TEXTS, *_sized(field.min_length, longest, rng)):
        if fits(field, text):
            found[text] = None
    for _ in range(_TRIES if field.pattern else 0):
        text = sample(tree, rng)
        for candidate in (text, text.ljust(field.min_length, "a"), text + rng.choice(_TEXTS)):
            if len(found) < 40 and fits(field, candidate):
                found[candidate] = None
    return list(found)


def _sized(shortest: int, longest: int, rng: Random) -> Sequence[str]:
    sizes = {shortest, min(shortest + 1, longest), max(min(longest, 2000) - 1, shortest), min(longest, 2000)}
    return [(filler * size)[:size] for size in sorted(sizes) for filler in ("a", "Zé ", "\U0001f600")]


def _as_kind(field: Field, value: Any) -> Any:
    return int(value) if field.kind == "integer" else value
