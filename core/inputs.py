"""The input specification of a model, and the one function that applies it in training and in serving.

A request travels as a row in its modelling goal's `RowSchema`: numbers (with booleans as 0 and 1) as doubles,
strings beside them. A model's `InputSpec` says which of these columns it reads, in which order, and how
categories, missing and unknown values become numbers. `compile_encoder` is the only place that does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from rdv.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Column = Callable[["Rows"], NDArray[np.float64] | list[float]]


class RowSchema(msgspec.Struct, frozen=True):
    """The columns of an enriched row, in the order in which the bus carries them."""

    numbers: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()

    def row(self, record: Mapping[str, object]) -> tuple[tuple[float, ...], tuple[str | None, ...]]:
        """A record as a row: absent and null become NaN or None, booleans 0.0 or 1.0.

        Raises InputError naming the field whose value is of the wrong type; fields outside the schema are ignored.
        """
        return (
            tuple(_number(name, record.get(name)) for name in self.numbers),
            tuple(_string(name, record.get(name)) for name in self.strings),
        )


class Rows:
    """A batch of rows, columns side by side: numbers (n, k) float64 row-major, strings k columns of n values."""

    __slots__ = ("numbers", "strings")

    def __init__(self, numbers: Matrix, strings: Sequence[Sequence[str | None]] = ()) -> None:
        self.numbers, self.strings = numbers, strings

    def __len__(self) -> int:
        return int(self.numbers.shape[0])


class InputField(msgspec.Struct, frozen=True):
    """One column of a model's matrix.

    type `number`: the value itself; missing becomes `fill` when given, else NaN.
    type `category`: the value's place in `vocabulary`; missing becomes NaN, a value outside the vocabulary NaN
    (unknown = `missing`) or len(vocabulary) (unknown = `other`). Vocabulary entries of a number column are the
    shortest text that reads back as the number (`3`, `0.5`).
    """

    name: str
    type: Literal["number", "category"] = "number"
    vocabulary: tuple[str, ...] = ()
    fill: float | None = None
    unknown: Literal["missing", "other"] = "missing"


class InputSpec(msgspec.Struct, frozen=True):
    """A model's ordered inputs."""

    fields: tuple[InputField, ...]

    def names(self) -> tuple[str, ...]:
        """The fields' names, in the order of the matrix's columns."""
        return tuple(field.name for field in self.fields)

    def categorical(self) -> tuple[int, ...]:
        """The columns of the matrix that hold categories."""
        return tuple(at for at, field in enumerate(self.fields) if field.type == "category")


def number_text(value: float) -> str:
    """The shortest text that reads back as this number, without a trailing `.0`."""
    text = repr(float(value) + 0.0)  # -0.0 is 0: they are equal, so they cannot be two categories
    return text[:-2] if text.endswith(".0") else text


def rows_from_records(schema: RowSchema, records: Sequence[Mapping[str, object]]) -> Rows:
    """Records as a batch of rows; InputError names the first field with a value of the wrong type."""
    import numpy as np

    made = [schema.row(record) for record in records]
    numbers = np.array([row[0] for row in made], dtype=np.float64).reshape(len(made), len(schema.numbers))
    return Rows(numbers, [[row[1][at] for row in made] for at in range(len(schema.strings))])


def compile_encoder(spec: InputSpec, schema: RowSchema) -> Callable[[Rows], Matrix]:
    """A function from rows in `schema` to the model's matrix (n, len(spec.fields)), float64, row-major.

    Raises InputError when the schema lacks a field of the specification or has it in the wrong type. The function
    may return the rows' own matrix when nothing has to change: treat it as read-only.
    """
    import numpy as np

    columns = [_compile_field(field, schema) for field in spec.fields]
    if all(field.type == "number" and field.fill is None for field in spec.fields):
        order = [schema.numbers.index(field.name) for field in spec.fields]
        if order == list(range(len(schema.numbers))):
            return lambda rows: rows.numbers
        return lambda rows: np.ascontiguousarray(rows.numbers[:, order])

    def encode(rows: Rows) -> Matrix:
        matrix = np.empty((len(rows), len(columns)), dtype=np.float64)
        for at, column in enumerate(columns):
            matrix[:, at] = column(rows)
        return matrix

    return encode


def _compile_field(field: InputField, schema: RowSchema) -> Column:
    if field.name in schema.numbers:
        at = schema.numbers.index(field.name)
        if field.type == "category":
            return _number_category(field, at)
        return _filled(at, field.fill)
    if field.name in schema.strings:
        if field.type != "category":
            raise InputError(
                f"field {field.name!r} is a string in the schema but a number in the model's inputs",
                "train the model again on this schema",
            )
        return _string_category(field, schema.strings.index(field.name))
    raise InputError(
        f"the schema has no field {field.name!r}, which the model reads", "add it to the goal's schema or its enricher"
    )


def _filled(at: int, fill: float | None) -> Column:
    import numpy as np

    if fill is None:
        return lambda rows: rows.numbers[:, at]

    def column(rows: Rows) -> Matrix | list[float]:
        values = rows.numbers[:, at]
        return np.where(np.isnan(values), fill, values)

    return column


def _string_category(field: InputField, at: int) -> Column:
    codes = {text: float(code) for code, text in enumerate(field.vocabulary)}
    other = float(len(codes)) if field.unknown == "other" else math.nan

    def column(rows: Rows) -> Matrix | list[float]:
        return [math.nan if text is None else codes.get(text, other) for text in rows.strings[at]]

    return column


def _number_category(field: InputField, at: int) -> Column:
    codes = {float(text): float(code) for code, text in enumerate(field.vocabulary)}
    other = float(len(codes)) if field.unknown == "other" else math.nan

    def column(rows: Rows) -> Matrix | list[float]:
        return [math.nan if value != value else codes.get(value, other) for value in rows.numbers[:, at].tolist()]

    return column


def _number(name: str, value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        return float(value)
    raise InputError(f"field {name!r} is {type(value).__name__}, not a number", "see the goal's schema")


def _string(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"field {name!r} is {type(value).__name__}, not a string", "see the goal's schema")
