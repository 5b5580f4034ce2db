"""CSV files as typed tables.

UTF-8, a header line, every row as long as the header; comma between fields, or semicolon or tab when the header
has no comma. Types the caller gives are held; other columns are read twice, first to see what they hold: numbers
(`31`, `-0.5`, `1e-3`; a leading zero as in `0171` makes a code, so text), booleans (`true`, `false`), else text.
Missing is the empty field, and in columns of numbers and booleans also NA, N/A, NaN, null and None.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rdv.errors import InputError
from rdv.pipelines.tables import Column, ColumnType, Table, string_column

_CHUNK_ROWS = 8192
_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
_BOOLEANS = {"true": 1.0, "false": 0.0, "True": 1.0, "False": 0.0, "TRUE": 1.0, "FALSE": 0.0}
_GIVEN_BOOLEANS = {**_BOOLEANS, "1": 1.0, "0": 0.0}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_CODE = re.compile(r"[+-]?0[0-9]", re.ASCII)

_Cells = tuple[str, ...]


def read_csv(file: Path, types: Mapping[str, ColumnType]) -> Table:
    """The table of a CSV file; `types` are held for the columns that they name.

    Raises InputError naming line and column for what cannot be read. Memory grows with the values, not with the text.
    """
    seen: dict[str, _Seen] = {}
    names: list[str] = []
    for names, _, columns in _chunks(file):
        for name, cells in zip(names, columns, strict=True):
            if name not in types:
                seen.setdefault(name, _Seen()).look(cells)
    chosen: dict[str, ColumnType] = {name: types[name] if name in types else seen[name].type() for name in names}
    parts: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {name: [] for name in names}
    texts: dict[str, list[str | None]] = {name: [] for name in names}
    for _, line, columns in _chunks(file):
        for name, cells in zip(names, columns, strict=True):
            if chosen[name] == "string":
                texts[name].extend(cell or None for cell in cells)
            else:
                parts[name].append(_numbers(chosen[name], cells, name, line))
    if not any(parts.values()) and not any(texts.values()):
        raise InputError(f"{file.name} has no rows below its header")
    return Table(
        {
            name: string_column(texts[name]) if kind == "string" else Column(kind, np.concatenate(parts[name]))
            for name, kind in chosen.items()
        }
    )


class _Seen:
    """What the cells of a column have shown so far."""

    def __init__(self) -> None:
        self.number = self.whole = self.boolean = True
        self.any = False

    def look(self, cells: _Cells) -> None:
        values = {cell.strip() for cell in set(cells)} - _MISSING
        self.any = self.any or bool(values)
        self.boolean = self.boolean and values <= _BOOLEANS.keys()
        self.number = self.number and all(_NUMBER.fullmatch(text) and not _CODE.match(text) for text in values)
        self.whole = self.whole and self.number and all(_WHOLE.fullmatch(text) for text in values)

    def type(self) -> ColumnType:
        if not self.any:
            return "number"
        if self.boolean:
            return "boolean"
        if self.number:
            return "integer" if self.whole else "number"
        return "string"


def _chunks(file: Path) -> Iterator[tuple[list[str], int, list[_Cells]]]:
    """Column names, the first row's number and the columns' cells, some thousand rows at a time."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            head = opened.readline()
            opened.seek(0)
            reader = csv.reader(opened, delimiter=_delimiter(head), strict=True)
            names = _header(file, next(reader, []))
            first = 1
            while rows := list(itertools.islice(reader, _CHUNK_ROWS)):
                rows = [row for row in rows if row]
                for at, row in enumerate(rows):
                    if len(row) != len(names):
                        raise InputError(
                            f"row {first + at} of {file.name} has {len(row)} fields, its header has {len(names)}",
                            "mend the row, or quote the fields that hold the delimiter",
                        )
                if rows:
                    yield names, first, list(zip(*rows, strict=True))
                first += len(rows)
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{file.name} cannot be read as CSV in UTF-8: {error}", "convert it first") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "see `data` of the model in rdv.toml") from None


def _delimiter(head: str) -> str:
    return next((mark for mark in (",", ";", "\t") if mark in head), ",")


def _header(file: Path, names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    if not names:
        raise InputError(f"{file.name} has no header line")
    double = {name for name in names if names.count(name) > 1 or not name}
    if double:
        raise InputError(f"the header of {file.name} names {sorted(double)[0]!r} twice or not at all")
    return names


def _numbers(kind: ColumnType, cells: _Cells, name: str, first: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A chunk of a number, integer or boolean column as float64."""
    known: dict[str, float] = {}
    for cell in set(cells):
        value = _number(kind, cell.strip())
        if value is None:
            raise InputError(
                f"row {first + cells.index(cell)}: column {name!r} has {cell[:40]!r}, which is no {kind}",
                "mend the data, or the field's type in the goal's schema",
            )
        known[cell] = value
    return np.array([known[cell] for cell in cells], dtype=np.float64)


def _number(kind: ColumnType, text: str) -> float | None:
    if text in _MISSING:
        return float("nan")
    if kind == "boolean":
        return _GIVEN_BOOLEANS.get(text)
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    if np.isinf(value) or (kind == "integer" and not value.is_integer()):
        return None
    return value
