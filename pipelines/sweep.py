"""Sweeps: which hyperparameters a run tries, parsed from `-P name=values`, counted first, made one by one."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rdv.errors import UsageError
from rdv.ids import digest_bytes
from rdv.pipelines.names import Value, canonical, parameters_text

CONFIRM_ABOVE = 1000
"""More points than this are asked for again before they are trained."""

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_RANGE = re.compile(r"([^\s:]+?)\.\.([^\s:]+?)(:log)?", re.ASCII)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}
_MOST_CHOICES = 1_000_000


@dataclass(frozen=True, slots=True)
class Choices:
    """An axis of a grid: every value is tried."""

    values: tuple[Value, ...]

    def draw(self, share: float) -> Value:
        """The value at a share in [0, 1) of the list."""
        return self.values[int(share * len(self.values))]


@dataclass(frozen=True, slots=True)
class Span:
    """An axis that has no list of values: `low` and `high` included, evenly or evenly in the logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, share: float) -> Value:
        """The value at a share in [0, 1) of the span, to six digits, so that names stay short."""
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(float(f"{value:.6g}"), self.low), self.high)
        return int(round(value)) if self.whole else value


Axis = Choices | Span


@dataclass(frozen=True)
class Sweep:
    """The points of a run: every combination of the axes, or `trials` of them drawn with a seed.

    Point i of a drawn sweep depends on seed and i only, so more trials keep the earlier ones. `defaults` fills what
    no axis names; its values say the types: 1 for a parameter whose default is 0.5 is 1.0.
    """

    axes: Mapping[str, Axis]
    defaults: Mapping[str, Value]
    trials: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        spans = [name for name, axis in self.axes.items() if isinstance(axis, Span)]
        if spans and not self.trials:
            raise UsageError(f"{spans[0]} is a range without steps", "add --trials N, or list the values: a,b,c")
        if self.trials < 0:
            raise UsageError("--trials must be positive")
        for name, axis in self.axes.items():
            ends = axis.values if isinstance(axis, Choices) else (axis.low, axis.high)
            for value in ends if not (isinstance(axis, Span) and axis.whole) else (int(axis.low), int(axis.high)):
                coerce(name, value, self.defaults)

    def count(self) -> int:
        """How many points there are, at most: two trials, or 1 and 1.0, may be one point."""
        if self.trials:
            return self.trials
        return math.prod(len(axis.values) for axis in self.axes.values() if isinstance(axis, Choices))

    def points(self) -> Iterator[dict[str, Value]]:
        """All parameters of each point, one point at a time, in a fixed order, no point twice."""
        seen: set[str] = set()
        for drawn in self._drawn() if self.trials else self._grid():
            point = {**self.defaults, **{name: coerce(name, value, self.defaults) for name, value in drawn.items()}}
            text = parameters_text(point)
            if text not in seen:
                seen.add(text)
                yield point

    def _grid(self) -> Iterator[dict[str, Value]]:
        lists = [axis.values for axis in self.axes.values() if isinstance(axis, Choices)]
        for values in itertools.product(*lists):
            yield dict(zip(self.axes, values, strict=True))

    def _drawn(self) -> Iterator[dict[str, Value]]:
        for trial in range(self.trials):
            yield {name: axis.draw(_share(self.seed, trial, name)) for name, axis in self.axes.items()}


def parse_axes(settings: Sequence[str]) -> dict[str, Axis]:
    """The axes of `-P name=values` flags, in the order given; UsageError for what cannot be read or named twice.

    Values: `0.1,0.2` a list, `3..6` integers with both ends, `0.01..0.3` a range to draw from (needs trials),
    `:log` behind a range for even spacing in the logarithm. `true`, `false`, `none` are words; text in double quotes
    stays text.
    """
    axes: dict[str, Axis] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals or not name or not text.strip():
            raise UsageError(f"-P {setting!r} is not name=value", "say for example -P num_leaves=31,63")
        if name in axes:
            raise UsageError(f"-P names {name} twice", f"put the values into one list: -P {name}=a,b")
        axes[name] = parse_axis(name, text)
    return axes


def parse_axis(name: str, text: str) -> Axis:
    """The axis of one `-P` flag's text."""
    parts = [part.strip() for part in _split(text)]
    if len(parts) == 1 and (found := _RANGE.fullmatch(parts[0])):
        span = _span(name, *found.groups())
        if isinstance(span, Span):
            return span
    values: list[Value] = []
    for part in parts:
        found = _RANGE.fullmatch(part)
        span = _span(name, *found.groups()) if found else None
        if isinstance(span, Span):
            raise UsageError(f"-P {name}={text}: a range to draw from cannot be part of a list")
        values.extend([_value(part)] if span is None else span)
    texts = [canonical(value) for value in values]
    if len(set(texts)) != len(texts):
        raise UsageError(f"-P {name}={text} lists a value twice")
    return Choices(tuple(values))


def coerce(name: str, value: Value, defaults: Mapping[str, Value]) -> Value:
    """The value in the type of the parameter's default: an integer for a number, else UsageError when it differs."""
    default = defaults.get(name)
    if default is None or value is None or type(value) is type(default):
        return value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, int) and not isinstance(default, bool) and isinstance(value, float) and value.is_integer():
        return int(value)
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: 'text (in "double quotes")'}
    raise UsageError(f"{name} is {wanted.get(type(default), type(default).__name__)}, not {canonical(value)}")


def _split(text: str) -> list[str]:
    """The parts between commas that stand outside double quotes."""
    return [part for part in re.findall(r'\s*"[^"]*"\s*|[^,]+|(?<=,)(?=,|$)|^(?=,)', text)] or [text]


def _value(text: str) -> Value:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        canonical(number)
        return number
    if not text:
        raise UsageError("an empty value in a list", 'write "" for an empty text')
    return text


def _span(name: str, low: str, high: str, log: str | None) -> Span | range | None:
    """What `low..high` means; None when the ends are no numbers (then it is text)."""
    first, last = _value(low), _value(high)
    numbers = [value for value in (first, last) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < 2:
        return None
    start, end = numbers
    if start > end or (log and start <= 0):
        raise UsageError(f"-P {name}={low}..{high}{log or ''}: a range goes up, and from above 0 with :log")
    whole = isinstance(start, int) and isinstance(end, int)
    if whole and not log:
        if end - start >= _MOST_CHOICES:
            raise UsageError(f"-P {name}={low}..{high} is more than a million values", "use a shorter range")
        return range(int(start), int(end) + 1)
    return Span(float(start), float(end), log=bool(log), whole=whole)


def _share(seed: int, trial: int, name: str) -> float:
    """A number in [0, 1) that is always the same for the same three."""
    return int(digest_bytes(f"{seed}\0{trial}\0{name}".encode())[:13], 16) / 16**13
