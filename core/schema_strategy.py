"""Hypothesis strategies made from a goal's schema: requests that it takes, and requests with one thing wrong.

For the tests of service projects; needs `pip install 'rdv[test]'`. Values come from the edges that `rdv.schema_probes`
knows and from all between them, so that what Hypothesis finds and shrinks is what the gateway can be sent.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from rdv.errors import ConfigError
from rdv.schema_fields import Field, fits, multiples
from rdv.schema_probes import edges, span

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from rdv.schema import GoalSchema

UNKNOWN_FIELD = "no-such-field"
_WRONG_TYPE: dict[str, tuple[Any, ...]] = {
    "number": ("12", True, [1.0], {}),
    "integer": ("12", 0.5, False, [1]),
    "boolean": ("true", 0, 1, []),
    "string": (7, True, ["a"], {}),
}


class Broken(msgspec.Struct, frozen=True):
    """A request that the schema refuses. field: the one at fault. why: what was done to it."""

    field: str
    why: str
    request: dict[str, Any]


def requests(schema: GoalSchema) -> SearchStrategy[dict[str, Any]]:
    """Requests that the schema takes: optional fields come and go, what may be null sometimes is."""
    from hypothesis import strategies as st

    made = {field.name: values(field) for field in schema.fields}
    required = {field.name: made[field.name] for field in schema.fields if field.required}
    optional = {field.name: made[field.name] for field in schema.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional)


def broken_requests(schema: GoalSchema) -> SearchStrategy[Broken]:
    """Requests with one thing wrong: a field missing, unknown, null, of another type or outside its limits."""
    from hypothesis import strategies as st

    faults = [fault for field in schema.fields for fault in _faults(field)]
    unknown = st.tuples(requests(schema), st.just((UNKNOWN_FIELD, "unknown", 1)))
    known = st.tuples(requests(schema), st.sampled_from(faults)) if faults else unknown
    return st.one_of(known, unknown).map(lambda pair: _break(*pair))


def values(field: Field) -> SearchStrategy[Any]:
    """Values that a field takes; ConfigError when none is found, as for `rdv.schema.probes`."""
    from hypothesis import strategies as st

    known = edges(field, Random(field.name))
    choices: list[SearchStrategy[Any]] = [st.sampled_from(known)] if known else []
    choices += _between(field)
    if not choices:
        raise ConfigError(f"no value was found for the field {field.name}: {field.takes}", "loosen its limits")
    return st.one_of(*choices, *([st.none()] if field.nullable else []))


def _between(field: Field) -> list[SearchStrategy[Any]]:
    from hypothesis import strategies as st

    if field.allowed is not None or field.kind == "boolean":
        return []
    if field.kind == "string":
        most = field.min_length + 40 if field.max_length is None else min(field.max_length, 400)
        free = st.text(st.characters(exclude_categories=["Cs"]), min_size=field.min_length, max_size=most)
        return [] if field.pattern else [free]
    if field.step:
        least, most = multiples(field)
        scale = int if field.kind == "integer" else float
        return [st.integers(least, most).map(lambda count: scale(count * field.step))]
    low, high = span(field)
    return [st.floats(low, high, allow_nan=False).filter(lambda value: fits(field, value))]


def _faults(field: Field) -> list[tuple[str, str, Any]]:
    """(field, what is wrong, the value); a missing one has no value."""
    found = [(field.name, "of another type", value) for value in _WRONG_TYPE[field.kind]]
    if field.required:
        found.append((field.name, "missing", None))
    if not field.nullable:
        found.append((field.name, "null", None))
    return found + [(field.name, "outside its limits", value) for value in _outside(field)]


def _outside(field: Field) -> list[Any]:
    if field.kind == "boolean":
        return []
    if field.kind == "string":
        tries: list[Any] = ["", "\0", "no such member", "a" * (field.min_length - 1 if field.min_length else 0)]
        tries += ["a" * (field.max_length + 1)] if field.max_length is not None else []
    else:
        tries = [field.low - 1, field.high + 1, field.low - (field.step or 1), 0.5, 3]
        tries = [int(one) if field.kind == "integer" and one == one // 1 else one for one in tries if abs(one) < 1e15]
    return [one for one in dict.fromkeys(tries) if not _takes(field, one)]


def _takes(field: Field, value: Any) -> bool:
    return value in field.allowed if field.allowed is not None else fits(field, value)


def _break(request: dict[str, Any], fault: tuple[str, str, Any]) -> Broken:
    name, why, value = fault
    rest = {key: kept for key, kept in request.items() if key != name}
    return Broken(name, why, rest if why == "missing" else {**rest, name: value})
