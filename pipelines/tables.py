"""Tables: typed columns of a data set in memory, and their form in an artifact's folder.

Numbers, integers and booleans are float64 (missing: NaN, booleans 0 and 1); strings are codes into their sorted
distinct values (missing: -1). On disk: `numbers.npy`, `codes.npy` and `columns.json`, the same bytes for the same
table; nothing in them can run code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from rdv.errors import CorruptArtifact, InputError
from rdv.inputs import number_text

ColumnType = Literal["number", "integer", "boolean", "string"]
NUMBERS, CODES, COLUMNS = "numbers.npy", "codes.npy", "columns.json"


@dataclass(frozen=True, slots=True)
class Column:
    """A typed column. data: (n,) float64, for a string column (n,) int32 codes into `values`."""

    type: ColumnType
    data: NDArray[Any]
    values: tuple[str, ...] = ()

    def missing(self) -> NDArray[np.bool_]:
        """(n,), true where there is no value."""
        return np.asarray(self.data < 0 if self.type == "string" else np.isnan(self.data))

    def texts(self) -> list[str | None]:
        """Every value as text, None where missing: numbers at their shortest, booleans `true` and `false`."""
        if self.type == "string":
            values = (*self.values, None)
            return [values[code] for code in self.data.tolist()]
        if self.type == "boolean":
            return [None if value != value else ("true" if value else "false") for value in self.data.tolist()]
        return [None if value != value else number_text(value) for value in self.data.tolist()]

    def objects(self, rows: Sequence[int]) -> list[object]:
        """The values of some rows as a JSON document has them: whole numbers, numbers, booleans, text or None."""
        picked = self.data[np.asarray(rows, dtype=np.int64)].tolist()
        if self.type == "string":
            return [None if code < 0 else self.values[code] for code in picked]
        if self.type == "boolean":
            return [None if value != value else bool(value) for value in picked]
        if self.type == "integer":
            return [None if value != value else int(value) for value in picked]
        return [None if value != value else value for value in picked]


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns of one length, in the order of the file they came from."""

    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).data) if self.columns else 0

    def column(self, name: str, use: str) -> Column:
        """A column; InputError says which one is missing, and what for."""
        if name not in self.columns:
            raise InputError(
                f"the data has no column {name!r}, which is the {use}", f"it has {', '.join(self.columns)}"
            )
        return self.columns[name]

    def records(self, rows: Sequence[int], names: Iterable[str]) -> list[dict[str, object]]:
        """Some rows as JSON-like records of the named columns; missing values are left out."""
        named = [(name, self.columns[name].objects(rows)) for name in names if name in self.columns]
        return [{name: values[at] for name, values in named if values[at] is not None} for at in range(len(rows))]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Table:
        """The table of some rows, by mask or by index."""
        return Table({name: Column(one.type, one.data[rows], one.values) for name, one in self.columns.items()})


class _ColumnEntry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    type: ColumnType
    values: tuple[str, ...] = ()


def string_column(texts: Iterable[str | None]) -> Column:
    """A string column of some texts, its values sorted, so that equal texts give an equal column."""
    listed = list(texts)
    values = sorted({text for text in listed if text is not None})
    codes: dict[str | None, int] = {text: code for code, text in enumerate(values)}
    codes[None] = -1
    return Column("string", np.array([codes[text] for text in listed], dtype=np.int32), tuple(values))


def table_from_columns(columns: Mapping[str, Sequence[object]]) -> Table:
    """A table of plain Python values: whole numbers, numbers, booleans or text, None where missing.

    Raises InputError for a column that mixes text with numbers, for NaN's kin and for columns of different lengths.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError("a data set needs at least one row, and as many in every column")
    return Table({name: _plain_column(name, values) for name, values in columns.items()})


def _plain_column(name: str, values: Sequence[object]) -> Column:
    there = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in there) and there:
        return string_column(None if value is None else str(value) for value in values)
    if not all(isinstance(value, bool | int | float | np.integer | np.floating | np.bool_) for value in there):
        strange = next(value for value in there if not isinstance(value, int | float))
        raise InputError(f"column {name!r} holds {strange!r}: keep numbers, booleans or text, not mixed")
    data = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if np.isinf(data).any():
        raise InputError(f"column {name!r} has an infinite value in row {int(np.isinf(data).argmax()) + 1}")
    if there and all(isinstance(value, bool | np.bool_) for value in there):
        return Column("boolean", data)
    return Column(
        "integer" if there and all(isinstance(value, int | np.integer) for value in there) else "number", data
    )


def save_table(table: Table, folder: Path) -> None:
    """Write a table's three files into a folder."""
    numbers = [one.data for one in table.columns.values() if one.type != "string"]
    codes = [one.data for one in table.columns.values() if one.type == "string"]
    np.save(folder / NUMBERS, _stacked(numbers, len(table), np.float64), allow_pickle=False)
    np.save(folder / CODES, _stacked(codes, len(table), np.int32), allow_pickle=False)
    entries = [_ColumnEntry(name, one.type, one.values) for name, one in table.columns.items()]
    (folder / COLUMNS).write_bytes(msgspec.json.encode(entries))


def load_table(numbers: Path, codes: Path, columns: Path) -> Table:
    """The table of three files; CorruptArtifact when they do not belong together."""
    try:
        entries = msgspec.json.decode(columns.read_bytes(), type=list[_ColumnEntry])
        plain, coded = np.load(numbers, allow_pickle=False), np.load(codes, allow_pickle=False)
        made, used = {}, {"string": 0, "number": 0}
        for entry in entries:
            kind = "string" if entry.type == "string" else "number"
            data = (coded if kind == "string" else plain)[used[kind]]
            used[kind] += 1
            made[entry.name] = Column(entry.type, data, entry.values)
    except (OSError, ValueError, IndexError, msgspec.MsgspecError) as error:
        raise CorruptArtifact(f"the table beside {columns.name} cannot be read: {error}") from None
    return Table(made)


def _stacked(columns: list[NDArray[Any]], rows: int, dtype: type[Any]) -> NDArray[Any]:
    """Columns as the rows of one array, each column contiguous."""
    return np.stack(columns).astype(dtype, copy=False) if columns else np.empty((0, rows), dtype=dtype)
