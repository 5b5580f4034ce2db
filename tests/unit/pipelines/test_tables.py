"""Tables: what CSV and Parquet files become, and that a saved table is the same table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import InputError
from rdv.pipelines.read_csv import read_csv
from rdv.pipelines.read_parquet import read_parquet
from rdv.pipelines.tables import CODES, COLUMNS, NUMBERS, Table, load_table, save_table, table_from_columns

number_cells = st.floats(allow_nan=False, allow_infinity=False) | st.none()
text_cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8) | st.none()


def read(tmp_path: Path, text: str, **types: str) -> Table:
    file = tmp_path / "data.csv"
    file.write_text(text, encoding="utf-8")
    return read_csv(file, types)  # type: ignore[arg-type]


def listed(table: Table, name: str) -> list[object]:
    return table.columns[name].objects(range(len(table)))


def test_types_are_seen_in_the_values(tmp_path: Path) -> None:
    """Whole numbers, numbers, booleans, codes with leading zeros and text are told apart, each with missing values."""
    table = read(
        tmp_path,
        "n,x,b,code,t,empty\n1,0.5,true,007,a,\nNA,1e3,False,12,NA,\n-3,,,,,\n",
    )
    assert {name: column.type for name, column in table.columns.items()} == {
        "n": "integer", "x": "number", "b": "boolean", "code": "string", "t": "string", "empty": "number",
    }  # fmt: skip
    assert listed(table, "n") == [1, None, -3]
    assert listed(table, "x") == [0.5, 1000.0, None]
    assert listed(table, "b") == [True, False, None]
    assert listed(table, "code") == ["007", "12", None]
    assert listed(table, "t") == ["a", "NA", None]


def test_given_types_are_held(tmp_path: Path) -> None:
    """A schema's types win over what the values look like: codes stay text, 0 and 1 become booleans."""
    table = read(tmp_path, "zip,flag,n\n01000,1,2.0\n99,0,NA\n", zip="string", flag="boolean", n="integer")
    assert listed(table, "zip") == ["01000", "99"]
    assert listed(table, "flag") == [True, False]
    assert listed(table, "n") == [2, None]


@pytest.mark.parametrize(
    ("text", "types", "told"),
    [
        ("a,b\n1,2\n3\n", {}, "row 2"),
        ("a,a\n1,2\n", {}, "twice"),
        ("a,\n1,2\n", {}, "twice or not at all"),
        ("", {}, "no header"),
        ("a,b\n", {}, "no rows"),
        ("a\n1\nx\n", {"a": "number"}, "row 2: column 'a' has 'x'"),
        ("a\n1.5\n", {"a": "integer"}, "1.5"),
        ("a\n1e999\n", {"a": "number"}, "1e999"),
        ("a\n1_000\n", {"a": "number"}, "1_000"),
        ("a\n١\n", {"a": "number"}, "row 1"),
        ("a\nmaybe\n", {"a": "boolean"}, "maybe"),
        ('a\n"x\n', {}, "CSV"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, types: dict[str, str], told: str) -> None:
    """Ragged rows, double names, values of the wrong type: an error that names row and column."""
    with pytest.raises(InputError, match=told.replace("(", r"\(")):
        read(tmp_path, text, **types)


def test_other_delimiters_and_a_byte_order_mark(tmp_path: Path) -> None:
    """Semicolons, tabs and the mark that spreadsheets put first are read as people expect."""
    assert listed(read(tmp_path, "\ufeffa;b\n1;x,y\n"), "b") == ["x,y"]
    assert listed(read(tmp_path, "a\tb\n1\t2\n"), "b") == [2]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A file in another encoding is an error, not a guess."""
    (tmp_path / "data.csv").write_bytes(b"a\n\xff\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_csv(tmp_path / "data.csv", {})


@given(st.lists(st.tuples(number_cells, text_cells), min_size=1, max_size=40))
def test_every_value_comes_back_from_a_csv_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, object]]
) -> None:
    """Numbers come back to the last bit and text to the last letter, whatever stands in them."""
    file = tmp_path_factory.mktemp("csv") / "data.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["x", "t"])
        writer.writerows(
            ["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in row] for row in rows
        )
    table = read_csv(file, {"x": "number", "t": "string"})
    assert listed(table, "x") == [row[0] for row in rows]
    assert listed(table, "t") == [row[1] for row in rows]


@given(st.lists(st.tuples(number_cells, text_cells, st.none() | st.booleans()), min_size=1, max_size=20))
def test_a_saved_table_is_the_same_table(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]
) -> None:
    """Saved and loaded, a table has the same columns, types and values; saved twice, the same bytes."""
    table = table_from_columns({name: [row[at] for row in rows] for at, name in enumerate("xtb")})
    one, other = (tmp_path_factory.mktemp("table") for _ in range(2))
    save_table(table, one)
    save_table(table, other)
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in (NUMBERS, CODES, COLUMNS))
    loaded = load_table(one / NUMBERS, one / CODES, one / COLUMNS)
    for name, column in table.columns.items():
        assert loaded.columns[name].type == column.type
        assert listed(loaded, name) == listed(table, name)


def test_records_hold_what_is_there(tmp_path: Path) -> None:
    """A record is what a request would say: typed values, nothing for what is missing."""
    table = read(tmp_path, "n,t,b\n1,a,true\n,,\n")
    assert table.records([1, 0], ["n", "t", "b", "other"]) == [{}, {"n": 1, "t": "a", "b": True}]


@pytest.mark.parametrize(
    "columns", [{}, {"a": []}, {"a": [1], "b": [1, 2]}, {"a": [1, "x"]}, {"a": [float("inf")]}, {"a": [object()]}]
)
def test_columns_that_make_no_table_are_refused(columns: dict[str, list[object]]) -> None:
    """Empty, ragged, mixed and infinite columns are input errors."""
    with pytest.raises(InputError):
        table_from_columns(columns)


def test_parquet_gives_the_same_table_as_csv(tmp_path: Path) -> None:
    """The same values stored as Parquet become the same table, dictionaries and times included."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"n": [1, None, -3], "x": [0.5, 1000.0, None], "b": [True, False, None], "t": ["a", "NA", None]}
    made = pyarrow.table({**columns, "d": pyarrow.array(columns["t"]).dictionary_encode()})
    parquet.write_table(made, tmp_path / "data.parquet")
    table = read_parquet(tmp_path / "data.parquet", {})
    for name, values in {**columns, "d": columns["t"]}.items():
        assert listed(table, name) == values
    assert table.columns["n"].type == "integer"
    held = read_parquet(tmp_path / "data.parquet", {"n": "string"})
    assert listed(held, "n") == ["1", None, "-3"]


def test_parquet_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Lists in a column, whole numbers beyond a double and files that are no Parquet are told by column or file."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for values, told in (([[1]], "type list"), ([2**60], "2\\^53"), (["a"], "no number")):
        parquet.write_table(pyarrow.table({"c": values}), tmp_path / "data.parquet")
        with pytest.raises(InputError, match=told):
            read_parquet(tmp_path / "data.parquet", {"c": "number"})
    (tmp_path / "data.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="Parquet"):
        read_parquet(tmp_path / "data.parquet", {})


def test_large_files_are_read_in_parts(tmp_path: Path) -> None:
    """More rows than one part holds arrive in order."""
    rows = 20_001
    table = read(tmp_path, "i,t\n" + "".join(f"{at},{'even' if at % 2 == 0 else 'odd'}\n" for at in range(rows)))
    assert np.array_equal(table.columns["i"].data, np.arange(rows))
    assert table.columns["t"].values == ("even", "odd")
