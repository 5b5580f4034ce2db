"""Parquet files as typed tables, through pyarrow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rdv.errors import ConfigError, InputError
from rdv.inputs import number_text
from rdv.pipelines.tables import Column, ColumnType, Table, string_column

_EXACT_BELOW = 2.0**53


def read_parquet(file: Path, types: Mapping[str, ColumnType]) -> Table:
    """The table of a Parquet file: numbers, booleans, text and dictionaries of text as they are, times as ISO 8601.

    `types` are held for the columns that they name. Raises InputError naming a column whose type cannot be used,
    ConfigError when pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(f"reading {file.name} needs pyarrow", "type: pip install 'rdv[parquet]'") from None
    try:
        read = parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{file.name} cannot be read as Parquet: {error}", "see `data` of the model") from None
    if not read.num_rows:
        raise InputError(f"{file.name} has no rows")
    return Table({name: _column(name, read.column(name), types.get(name)) for name in read.column_names})


def _column(name: str, values: Any, wanted: ColumnType | None) -> Column:
    from pyarrow import types as arrow

    kind = values.type.value_type if arrow.is_dictionary(values.type) else values.type
    if arrow.is_boolean(kind):
        found = Column("boolean", _floats(values))
    elif arrow.is_integer(kind) or arrow.is_floating(kind) or arrow.is_decimal(kind):
        found = _number_column(name, _floats(values), whole=arrow.is_integer(kind))
    elif arrow.is_string(kind) or arrow.is_large_string(kind) or arrow.is_null(kind):
        found = string_column(values.to_pylist())
    elif arrow.is_temporal(kind) and not arrow.is_duration(kind):
        found = string_column(None if one is None else one.isoformat() for one in values.to_pylist())
    else:
        raise InputError(f"column {name!r} is of type {values.type}", "keep numbers, booleans, text and times only")
    return _as_wanted(name, found, wanted)


def _floats(values: Any) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if one is None else float(one) for one in values.to_pylist()], dtype=np.float64)


def _number_column(name: str, data: np.ndarray[tuple[int], np.dtype[np.float64]], whole: bool) -> Column:
    if np.isinf(data).any():
        raise InputError(f"column {name!r} has an infinite value in row {int(np.isinf(data).argmax()) + 1}")
    if whole and np.nanmax(np.abs(data), initial=0.0) > _EXACT_BELOW:
        raise InputError(f"column {name!r} has whole numbers above 2^53, which no double holds", "store them as text")
    return Column("integer" if whole else "number", data)


def _as_wanted(name: str, found: Column, wanted: ColumnType | None) -> Column:
    if wanted is None or wanted == found.type:
        return found
    if wanted == "string":
        return string_column(found.texts())
    whole = found.type != "string" and bool(np.all(np.isnan(found.data) | (found.data == np.floor(found.data))))
    fits = {
        "number": found.type in ("integer", "boolean"),
        "integer": whole,
        "boolean": whole and bool(np.all(np.isnan(found.data) | (found.data == 0) | (found.data == 1))),
    }
    if found.type == "string" and bool(found.missing().all()):
        return Column(wanted, np.full(len(found.data), np.nan))
    if not fits[wanted]:
        told = found.values[0] if found.values else number_text(float(np.nanmax(found.data, initial=0.0)))
        raise InputError(f"column {name!r} is no {wanted} throughout: it has {told[:40]!r}", "see the goal's schema")
    return Column(wanted, found.data)
