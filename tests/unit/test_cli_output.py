"""Forms of output: the same data as a table, JSON, JSON lines and Markdown."""

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.cli import output
from rdv.cli.options import pairs
from rdv.errors import UsageError
from rdv.records import Pointer

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
RECORDS = st.lists(st.fixed_dictionaries({"name": st.text(), "value": VALUES}), max_size=5)


@given(RECORDS)
def test_json_output_is_json_of_the_values(records: list[Mapping[str, object]]) -> None:
    """Strict JSON comes out whatever goes in, NaN and infinities as null, everything else as it was."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    read = json.loads(output.as_json(records), parse_constant=refuse)
    assert [one["name"] for one in read] == [one["name"] for one in records]
    for one, record in zip(read, records, strict=True):
        value = record["value"]
        lost = isinstance(value, float) and not math.isfinite(value)
        assert one["value"] == (None if lost else value)


def test_structs_are_objects() -> None:
    """A record of ours prints with its fields as keys."""
    assert json.loads(output.as_json(Pointer(version="v1")))["version"] == "v1"


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "md"])
def test_every_form_shows_every_record(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each record is in the output of each form, and nothing goes to stderr."""
    output.rows([{"model": "a", "auc": 0.7}, {"model": "b|c", "auc": None}], ["model", "auc"], form)
    out, err = capsys.readouterr()
    assert "a" in out
    assert "0.7" in out
    assert ("b\\|c" if form == "md" else "b|c") in out
    assert err == ""


def test_json_lines_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line of jsonl can be read alone."""
    output.rows([{"a": 1}, {"a": 2}], ["a"], "jsonl")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"a": 1}, {"a": 2}]


def test_no_record_is_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    """Without records a table prints nothing on stdout and a note on stderr, JSON an empty list."""
    output.rows([], ["a"], "table", empty="nothing yet")
    assert capsys.readouterr() == ("", "nothing yet\n")
    output.rows([], ["a"], "json")
    assert json.loads(capsys.readouterr().out) == []


def test_columns_of_numbers_stand_to_the_right() -> None:
    """Numbers align at their right end, texts at their left."""
    assert output.plain(["name", "n"], [["a", "5"], ["bb", "100"]], [False, True]) == "name    n\na       5\nbb    100"


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=9), min_size=2, max_size=2)
    )
)
def test_markdown_tables_have_one_line_a_row(cells: list[list[str]]) -> None:
    """However odd the cells are, a Markdown table keeps two columns in every line."""
    lines = output.markdown(["a", "b"], cells, [False, False]).splitlines()
    assert len(lines) == len(cells) + 2
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)


def test_overrides_are_pairs() -> None:
    """--set takes KEY=VALUE, keeping later equal signs in the value, and names what is none."""
    assert pairs(["a.b=1", "c = x=y "], "--set") == {"a.b": "1", "c": "x=y"}
    with pytest.raises(UsageError, match="--set 'novalue'"):
        pairs(["novalue"], "--set")


def test_shares_are_not_rounded_up_to_all() -> None:
    """99.999 % is not shown as 100 %, and only columns of shares are per cent."""
    assert output.shown("share", 0.99999) == "99.99 %"
    assert output.shown("share", 1.0) == "100 %"
    assert output.shown("auc", 0.99999) == "1"


def test_moments_are_shown_to_the_second() -> None:
    """A moment in UTC loses what nobody reads; any other text stays as it is."""
    assert output.cell("2026-05-01T10:11:12.345+00:00") == "2026-05-01 10:11:12"
    assert output.cell("2026-05-01T10:11:12+02:00") == "2026-05-01T10:11:12+02:00"


def test_only_amounts_have_their_thousands_separated() -> None:
    """A port and a process id are names; a count of requests is an amount."""
    assert (output.shown("value", 8080), output.shown("pid", 12345)) == ("8080", "12345")
    assert output.shown("requests", 12345) == "12,345"
