"""Features: inputs chosen from what requests carry, vocabularies from training rows, one matrix for both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import ConfigError, InputError
from rdv.inputs import RowSchema, compile_encoder, rows_from_records
from rdv.pipelines.features import (
    MOST_CATEGORIES,
    About,
    choose_inputs,
    read_features,
    read_table,
    save_features,
    table_rows,
)
from rdv.pipelines.tables import Table, table_from_columns

SCHEMA = RowSchema(("age", "dose", "smoker", "level"), ("ward",))
PARTS = np.array([0, 0, 0, 0, 1, 2], dtype=np.uint8)


def table() -> Table:
    return table_from_columns(
        {
            "age": [1, 2, 3, 4, 5, 6],
            "smoker": [True, False, None, True, True, False],
            "level": [1, 1, 2.5, None, 9, 1],
            "ward": ["b", "a", None, "a", "new", "a"],
            "label": [0, 1, 0, 1, 0, 1],
        }
    )


def test_inputs_are_what_schema_and_data_share() -> None:
    """Columns outside schema or data are no inputs; strings and named numbers are categories of training rows."""
    spec = choose_inputs(SCHEMA, table(), PARTS, ("level",), ("smoker",))
    assert spec.names() == ("age", "level", "ward")
    assert [field.vocabulary for field in spec.fields] == [(), ("1", "2.5"), ("a", "b")]
    assert spec.categorical() == (1, 2)


def test_inputs_that_cannot_be_are_refused() -> None:
    """An unknown categorical column, no column at all, and a column of too many categories are told."""
    with pytest.raises(ConfigError, match="label"):
        choose_inputs(SCHEMA, table(), PARTS, ("label",), ())
    with pytest.raises(InputError, match="no column"):
        choose_inputs(SCHEMA, table(), PARTS, (), ("age", "smoker", "level", "ward"))
    many = table_from_columns({"ward": [f"w{n}" for n in range(MOST_CATEGORIES + 1)]})
    with pytest.raises(InputError, match="exclude"):
        choose_inputs(SCHEMA, many, np.zeros(MOST_CATEGORIES + 1, dtype=np.uint8), (), ())


def test_saved_features_are_the_same_features(tmp_path: Path) -> None:
    """Matrix, answers, parts and table come back, read-only, and two saves give the same bytes."""
    spec = choose_inputs(SCHEMA, table(), PARTS, ("level",), ())
    about = About(SCHEMA, ("age",), spec, "probability", ("0", "1"), "1")
    carried = Table({name: table().columns[name] for name in ("age", "smoker", "level", "ward")})
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        save_features(tmp_path / name, about, carried, np.arange(6.0), PARTS)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()
    found = read_features(lambda path: tmp_path / "one" / path)
    assert found.about == about
    assert found.part("train").answers.tolist() == [0, 1, 2, 3]
    assert found.indices("test").tolist() == [5]
    assert np.array_equal(
        found.matrix,
        np.array(
            [
                [1, 1, 0, 1],
                [2, 0, 0, 0],
                [3, np.nan, 1, np.nan],
                [4, 1, np.nan, 0],
                [5, 1, np.nan, np.nan],
                [6, 0, 0, 0],
            ]
        ),
        equal_nan=True,
    )
    with pytest.raises(ValueError, match="read-only"):
        found.matrix[0, 0] = 1
    assert read_table(lambda path: tmp_path / "one" / path).columns["ward"].values == ("a", "b", "new")


@given(
    st.lists(
        st.tuples(st.none() | st.integers(-5, 5), st.none() | st.booleans(), st.none() | st.sampled_from("abc")),
        min_size=1,
        max_size=20,
    )
)
def test_a_table_becomes_the_rows_that_requests_become(rows: list[tuple[object, object, object]]) -> None:
    """Rows of a table are encoded as the same records would be in serving, to the last bit."""
    columns = {"age": [r[0] for r in rows], "smoker": [r[1] for r in rows], "ward": [r[2] for r in rows]}
    made = table_from_columns(columns)
    if made.columns["ward"].type != "string":
        return
    records = [{name: values[at] for name, values in columns.items()} for at in range(len(rows))]
    spec = choose_inputs(SCHEMA, made, np.zeros(len(rows), dtype=np.uint8), ("age",), ())
    encode = compile_encoder(spec, SCHEMA)
    one, other = encode(table_rows(SCHEMA, made, range(len(rows)))), encode(rows_from_records(SCHEMA, records))
    assert np.array_equal(one, other, equal_nan=True)
