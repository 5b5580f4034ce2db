"""The input specification: one function turns rows into a model's matrix, in training and in serving."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import InputError
from rdv.inputs import InputField, InputSpec, Rows, RowSchema, compile_encoder, number_text, rows_from_records

NUMBERS = st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)
TEXTS = st.none() | st.sampled_from(["a", "b", "c", ""]) | st.text(max_size=3)
SCHEMA = RowSchema(("x", "y"), ("s", "t"))
RECORDS = st.lists(
    st.fixed_dictionaries({"x": NUMBERS, "y": NUMBERS}, optional={"s": TEXTS, "t": TEXTS}), min_size=1, max_size=8
)
FIELDS = st.lists(
    st.one_of(
        st.builds(InputField, st.sampled_from(["x", "y"]), fill=st.none() | st.floats(-5, 5)),
        st.builds(
            InputField,
            st.sampled_from(["s", "t"]),
            st.just("category"),
            st.just(("a", "b")),
            unknown=st.sampled_from(["missing", "other"]),
        ),
        st.builds(InputField, st.sampled_from(["x", "y"]), st.just("category"), st.just(("0", "1", "2.5"))),
    ),
    min_size=1,
    max_size=5,
)


def expected(field: InputField, value: object) -> float:
    """What one cell must be, said the slow way."""
    if value is None:
        return math.nan if field.fill is None else field.fill
    if field.type == "number":
        return float(value)  # type: ignore[arg-type]
    text = value if isinstance(value, str) else number_text(float(value))  # type: ignore[arg-type]
    if text in field.vocabulary:
        return float(field.vocabulary.index(text))
    return float(len(field.vocabulary)) if field.unknown == "other" else math.nan


@given(RECORDS, FIELDS)
def test_every_cell_follows_its_fields_rules(records: list[dict[str, object]], fields: list[InputField]) -> None:
    """Each cell of the matrix is what its field's rules for missing, unknown and category values say."""
    matrix = compile_encoder(InputSpec(tuple(fields)), SCHEMA)(rows_from_records(SCHEMA, records))
    assert matrix.shape == (len(records), len(fields))
    assert matrix.dtype == np.float64
    assert matrix.flags.c_contiguous
    want = [[expected(field, record.get(field.name)) for field in fields] for record in records]
    np.testing.assert_array_equal(matrix, np.array(want))


@given(RECORDS, FIELDS)
def test_a_row_is_encoded_alike_alone_or_batched(records: list[dict[str, object]], fields: list[InputField]) -> None:
    """A row's matrix line does not depend on the rows that travel with it."""
    encode = compile_encoder(InputSpec(tuple(fields)), SCHEMA)
    together = encode(rows_from_records(SCHEMA, records))
    alone = [encode(rows_from_records(SCHEMA, [record]))[0] for record in records]
    np.testing.assert_array_equal(together, np.array(alone))


def test_numbers_in_schema_order_are_not_copied() -> None:
    """A model that reads all numbers in the schema's order gets the rows' own matrix."""
    rows = Rows(np.ones((3, 2)))
    encode = compile_encoder(InputSpec((InputField("x"), InputField("y"))), RowSchema(("x", "y")))
    assert encode(rows) is rows.numbers


@pytest.mark.parametrize(
    ("field", "named"), [(InputField("z"), "'z'"), (InputField("s"), "'s'"), (InputField("", "category"), "''")]
)
def test_a_field_that_the_schema_cannot_give_is_refused_by_name(field: InputField, named: str) -> None:
    """A specification that asks for an absent field or another type is refused when it is compiled."""
    with pytest.raises(InputError, match=named):
        compile_encoder(InputSpec((field,)), SCHEMA)


@pytest.mark.parametrize("record", [{"x": "1"}, {"y": [1]}, {"s": 1}, {"t": True}])
def test_a_value_of_the_wrong_type_is_refused_by_field(record: dict[str, object]) -> None:
    """A record whose value has the wrong type is refused, and the message names the field."""
    with pytest.raises(InputError, match=repr(next(iter(record)))):
        rows_from_records(SCHEMA, [record])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_text_reads_back(value: float) -> None:
    """The text of a number in a vocabulary reads back as the same number."""
    assert float(number_text(value)) == value
