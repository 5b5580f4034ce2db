"""Probe rows: a few rows in a manifest by which whoever loads a model can tell that it computes what it should.

A probe row has one value an input, in the order of the model's inputs: a number, a text, or null for missing. So it
stands on its own, whatever else the schema of the day carries.
"""

from __future__ import annotations

import math

from rdv.errors import InputError
from rdv.inputs import InputField, InputSpec, Rows, RowSchema

ProbeRow = tuple[float | str | None, ...]


def to_probe_rows(spec: InputSpec, schema: RowSchema, rows: Rows, most: int = 16) -> tuple[ProbeRow, ...]:
    """The first rows of a batch (at most `most`) as probe rows of a model with these inputs.

    Raises InputError when the schema lacks one of the inputs.
    """
    count = min(most, len(rows))
    columns: list[list[float | str | None]] = []
    for field in spec.fields:
        if field.name in schema.numbers:
            values = rows.numbers[:count, schema.numbers.index(field.name)].tolist()
            columns.append([None if math.isnan(value) else value for value in values])
        elif field.name in schema.strings:
            columns.append(list(rows.strings[schema.strings.index(field.name)][:count]))
        else:
            raise InputError(f"the schema has no field {field.name!r}, which the model reads", "see the goal's schema")
    return tuple(zip(*columns, strict=True))


def from_probe_rows(spec: InputSpec, probe: tuple[ProbeRow, ...]) -> tuple[RowSchema, Rows]:
    """Probe rows as a batch, with the row schema it is in: just the model's inputs.

    Raises InputError when a row has another number of values than the model has inputs.
    """
    import numpy as np

    names = spec.names()
    if any(len(row) != len(names) for row in probe):
        raise InputError(f"a probe row has another number of values than the model's {len(names)} inputs")
    columns = {name: [row[at] for row in probe] for at, name in enumerate(names)}
    text = {field.name for field in spec.fields if _is_text(field, columns[field.name])}
    schema = RowSchema(tuple(name for name in names if name not in text), tuple(name for name in names if name in text))
    numbers = np.empty((len(probe), len(schema.numbers)), dtype=np.float64)
    for at, name in enumerate(schema.numbers):
        numbers[:, at] = [math.nan if value is None else value for value in columns[name]]
    strings = [[None if value is None else str(value) for value in columns[name]] for name in schema.strings]
    return schema, Rows(numbers, strings)


def _is_text(field: InputField, column: list[float | str | None]) -> bool:
    """Whether the values are texts; where all are missing, the vocabulary tells."""
    if any(isinstance(value, str) for value in column):
        return True
    return field.type == "category" and not all(_is_number(text) for text in field.vocabulary)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
