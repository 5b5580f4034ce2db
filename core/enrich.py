"""External state added to a request before the fan-out, once, so that every model and the decoy see the same.

A lookup *hits* when its table has a row for the request's key, or its function returned its columns; a hit may
still hold missing values (an empty cell, None). It *misses* when the key is absent, null or not in the table, and
when the function raised or returned something else. Where requests are answered it also misses without being tried
while its circuit breaker is open: a function that raises or takes too long again and again is left alone for a while.
It is *late* when it ended after the slice of the budget that enrichment may take, or was not tried because the slice
was used up. Columns of a lookup that missed or was late are all missing: NaN for numbers, None for strings. Nothing a
lookup does can fail a request.
"""

from __future__ import annotations

import csv
import importlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from rdv.breaker import Breaker, BreakerPolicy
from rdv.config import Lookup
from rdv.errors import ConfigError
from rdv.inputs import RowSchema, number_text

HIT, MISSED, LATE = 0, 1, 2
MARK_BITS = 2
MAX_LOOKUPS = 32
"""As many as fit into the 64 bits of a row's marks."""

Row = tuple[tuple[float, ...], tuple[str | None, ...]]
Find = Callable[[Mapping[str, Any]], Row | None]


class Enriched(msgspec.Struct, frozen=True):
    """What the lookups added: numbers and strings in the order of `Enricher.columns`, and two bits a lookup."""

    numbers: tuple[float, ...]
    strings: tuple[str | None, ...]
    marks: int


SKIPPING = BreakerPolicy(failures=10, ceiling_s=10.0, trial_share=0.02, dear_s=300.0)
"""Of a lookup's breaker. A call blocks all that is answered meanwhile, so trials may cost a fiftieth of the time."""


class Enricher:
    """All lookups of a modelling goal, compiled. `columns`: what they add, numbers and strings in order."""

    __slots__ = ("_clock", "_lookups", "columns")

    def __init__(
        self,
        lookups: Sequence[tuple[Find, Row]],
        columns: RowSchema,
        clock: Callable[[], float] = time.monotonic,
        breakers: Sequence[Breaker | None] = (),
    ) -> None:
        """lookups: how each finds its row, and its row of missing values. breakers: one a lookup, or none at all."""
        every = breakers or [None] * len(lookups)
        self._lookups = tuple((find, missing, one) for (find, missing), one in zip(lookups, every, strict=True))
        self.columns, self._clock = columns, clock

    def __len__(self) -> int:
        return len(self._lookups)

    def add(self, record: Mapping[str, Any], slice_s: float = math.inf) -> Enriched:
        """What the lookups say about a request; slice_s: how long all of them together may take."""
        now = self._clock()
        ends = now + slice_s
        numbers: list[float] = []
        strings: list[str | None] = []
        marks = 0
        for at, (find, missing, breaker) in enumerate(self._lookups):
            began = now
            if began >= ends or (breaker is not None and not breaker.allows(self._clock)):
                row, mark = None, LATE if began >= ends else MISSED
            else:
                row = find(record)
                now = self._clock()
                mark = LATE if now >= ends else MISSED if row is None else HIT
                if breaker is not None:
                    self._tell(breaker, mark, now, now - began, slice_s)
            marks |= mark << (MARK_BITS * at)
            found = row if mark == HIT and row is not None else missing
            numbers += found[0]
            strings += found[1]
        return Enriched(tuple(numbers), tuple(strings), marks)

    def _tell(self, breaker: Breaker, mark: int, now: float, took_s: float, slice_s: float) -> None:
        """Tell a function's breaker how it went; one that took many times the slice counts so many times."""
        if mark == HIT:
            breaker.succeeded()
        elif mark == MISSED:
            breaker.failed("it raises, or does not return its columns", now, took_s)
        elif took_s >= slice_s / len(self._lookups):  # else it was late because of others
            weight = int(min(SKIPPING.failures, max(1.0, took_s / slice_s))) if slice_s > 0 else 1
            breaker.failed(f"it took {took_s * 1e3:.0f} ms of {slice_s * 1e3:.0f} ms for all", now, took_s, weight)


def marks_of(marks: int, lookups: int) -> tuple[int, ...]:
    """The mark of each lookup in a row's word: HIT, MISSED or LATE."""
    return tuple((marks >> (MARK_BITS * at)) & 3 for at in range(lookups))


def columns_of(lookups: Sequence[Lookup]) -> RowSchema:
    """The columns that lookups add to a row, in order: lookup by lookup as declared, numbers beside strings."""
    declared = [(name, kind) for lookup in lookups for name, kind in lookup.columns.items()]
    return RowSchema(
        tuple(name for name, kind in declared if kind == "number"),
        tuple(name for name, kind in declared if kind == "string"),
    )


def compile_enricher(
    lookups: Sequence[Lookup],
    folder: Path,
    schema: RowSchema,
    guard: Callable[[str], Breaker] | None = None,
) -> Enricher:
    """The lookups of a modelling goal, ready to use.

    folder: where rdv.toml is; tables are relative to it and functions are imported from it. schema: the request's own
    fields. guard: gives the breaker of a function by its name; without it no call is ever left out, so that what is
    computed depends on the record alone. ConfigError names the lookup and what is wrong: a table or function that
    cannot be read, a cell that is no number, a key twice in a table, a column that is there already.
    """
    columns = columns_of(lookups)
    _check(lookups, columns, schema)
    compiled = [(_compile(one, folder, schema), _missing(one)) for one in lookups]
    breakers = [guard(one.function) if guard is not None and one.function else None for one in lookups]
    return Enricher(compiled, columns, breakers=breakers)


def _check(lookups: Sequence[Lookup], columns: RowSchema, schema: RowSchema) -> None:
    names = [*schema.numbers, *schema.strings, *columns.numbers, *columns.strings]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"lookups add columns that are there already: {', '.join(twice)}", "rename them in rdv.toml")
    if len(lookups) > MAX_LOOKUPS:
        raise ConfigError(f"{len(lookups)} lookups are more than {MAX_LOOKUPS}", "join tables that share a key")
    for lookup in lookups:
        if bool(lookup.table) == bool(lookup.function):
            raise ConfigError("a lookup has either `table` and `key` or `function`", "see `rdv config check`")
        if lookup.table and lookup.key not in (*schema.numbers, *schema.strings):
            raise ConfigError(
                f"lookup {lookup.table}: no request field is named {lookup.key!r}", "see the goal's schema"
            )


def _missing(lookup: Lookup) -> Row:
    kinds = list(lookup.columns.values())
    return (math.nan,) * kinds.count("number"), (None,) * kinds.count("string")


def _compile(lookup: Lookup, folder: Path, schema: RowSchema) -> Find:
    if lookup.table:
        return _table(lookup, folder / lookup.table, lookup.key in schema.numbers)
    return _function(lookup, folder)


def _table(lookup: Lookup, path: Path, key_is_number: bool) -> Find:
    rows: dict[str, Row] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in csv.DictReader(file):
                key = _key_text(line.get(lookup.key), key_is_number)
                if key is None:
                    raise ConfigError(f"lookup {lookup.table}: a row has no usable {lookup.key!r}")
                if key in rows:
                    raise ConfigError(f"lookup {lookup.table}: {lookup.key} {key!r} is there twice")
                rows[key] = _cells(lookup, line, key)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"lookup table {lookup.table} cannot be read: {error}", "see `rdv config check`") from error
    name = lookup.key

    def find(record: Mapping[str, Any]) -> Row | None:
        key = _key_text(record.get(name), key_is_number)
        return None if key is None else rows.get(key)

    return find


def _key_text(value: object, is_number: bool) -> str | None:
    """The value as a key: a number as its shortest text, so that 3, 3.0 and `3` meet; None when there is none."""
    if value is None or value == "":
        return None
    if not is_number:
        return str(value)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number_text(number)


def _cells(lookup: Lookup, line: Mapping[str, str | None], key: str) -> Row:
    numbers: list[float] = []
    strings: list[str | None] = []
    for name, kind in lookup.columns.items():
        if name not in line:
            raise ConfigError(f"lookup {lookup.table} has no column {name!r}", "see `columns` in rdv.toml")
        cell = line[name] or ""
        if kind == "string":
            strings.append(cell or None)
            continue
        try:
            numbers.append(float(cell) if cell.strip() else math.nan)
        except ValueError:
            raise ConfigError(f"lookup {lookup.table}: {name} of {key!r} is {cell!r}, not a number") from None
    return tuple(numbers), tuple(strings)


def _function(lookup: Lookup, folder: Path) -> Find:
    call = _imported(lookup.function, folder)
    columns = list(lookup.columns.items())

    def find(record: Mapping[str, Any]) -> Row | None:
        try:
            found = call(dict(record))
            numbers = tuple(_number(found.get(name)) for name, kind in columns if kind == "number")
            strings = tuple(_string(found.get(name)) for name, kind in columns if kind == "string")
        except Exception:  # whatever a project's function does, the request goes on
            return None
        return numbers, strings

    return find


def _imported(name: str, folder: Path) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
    module, _, attribute = name.partition(":")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise ConfigError(f"lookup function {name!r} cannot be imported: {error}", "it is `module:name`") from error
    if not callable(found):
        raise ConfigError(f"lookup function {name!r} cannot be called", "it is `module:name`")
    return cast("Callable[[dict[str, Any]], Mapping[str, Any]]", found)


def _number(value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        return float(value)
    raise TypeError


def _string(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # a lone surrogate could not travel
    return value
