"""Enrichment: what hits, misses and is late, and that nothing a lookup does can fail a request."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.config import Lookup
from rdv.enrich import HIT, LATE, MISSED, Enriched, Enricher, columns_of, compile_enricher, marks_of
from rdv.errors import ConfigError
from rdv.inputs import RowSchema

OWN = RowSchema(("age", "zone"), ("plan",))
TABLE = "plan,price,label\nbasic,10,Basic\ngold,25.5,\nempty,,\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a table and a module of functions, importable only for this test."""
    (tmp_path / "plans.csv").write_text(TABLE)
    (tmp_path / "zones.csv").write_text("zone,risk\n3,0.5\n4.50,0.75\n")
    name = f"lookups_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(
        "def double(request):\n    return {'twice': 2 * request['age'], 'shout': (request['plan'] or '').upper()}\n"
        "def fails(request):\n    raise ValueError('secret')\n"
        "def mutates(request):\n    request.clear()\n    return {'twice': 1, 'shout': None}\n"
        "def wrong(request):\n    return {'twice': 'many', 'shout': 'x'}\n"
        "def surrogate(request):\n    return {'twice': 1, 'shout': '\\ud800'}\n"
        "def nothing(request):\n    return None\n"
        "constant = 3\n"
    )
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "module").write_text(name)
    return tmp_path


def table(**change: Any) -> Lookup:
    columns = {"price": "number", "label": "string"}
    return Lookup(**{"columns": columns, "table": "plans.csv", "key": "plan", **change})


def function(folder: Path, name: str) -> Lookup:
    module = (folder / "module").read_text()
    return Lookup(columns={"twice": "number", "shout": "string"}, function=f"{module}:{name}")


def added(folder: Path, lookup: Lookup, **record: Any) -> tuple[Enriched, tuple[int, ...]]:
    found = compile_enricher([lookup], folder, OWN).add({"age": 2, "zone": 3, "plan": "basic", **record})
    return found, marks_of(found.marks, 1)


def test_table_adds_its_row(folder: Path) -> None:
    """A request whose key is in the table gets its columns; an empty cell is a hit with a missing value."""
    assert added(folder, table()) == (Enriched((10.0,), ("Basic",), 0), (HIT,))
    assert added(folder, table(), plan="gold")[0].strings == (None,)
    found, marks = added(folder, table(), plan="empty")
    assert math.isnan(found.numbers[0])
    assert marks == (HIT,)


@pytest.mark.parametrize("plan", [None, "", "absent", "Basic"])
def test_table_misses(folder: Path, plan: str | None) -> None:
    """A key that is absent, null, empty or not in the table misses: all its columns are missing, and it is marked."""
    found, marks = added(folder, table(), plan=plan)
    assert marks == (MISSED,)
    assert math.isnan(found.numbers[0])
    assert found.strings == (None,)


@pytest.mark.parametrize(("zone", "risk"), [(3, 0.5), (3.0, 0.5), (4.5, 0.75)])
def test_number_keys_meet_whatever_their_spelling(folder: Path, zone: float, risk: float) -> None:
    """A number finds its row however it is written on either side."""
    lookup = Lookup(columns={"risk": "number"}, table="zones.csv", key="zone")
    assert added(folder, lookup, zone=zone)[0].numbers == (risk,)


def test_function_adds_its_columns(folder: Path) -> None:
    """A function is called with the request and its columns are added."""
    assert added(folder, function(folder, "double")) == (Enriched((4.0,), ("BASIC",), 0), (HIT,))


@pytest.mark.parametrize("name", ["fails", "wrong", "surrogate", "nothing"])
def test_function_that_fails_misses(folder: Path, name: str) -> None:
    """A function that raises, or returns what cannot be a row, misses; the request goes on."""
    found, marks = added(folder, function(folder, name))
    assert marks == (MISSED,)
    assert found.strings == (None,)


def test_function_cannot_change_the_request(folder: Path) -> None:
    """A function is handed a copy, so that the next lookup sees the request as it came."""
    record = {"age": 2, "zone": 3, "plan": "basic"}
    compile_enricher([function(folder, "mutates")], folder, OWN).add(record)
    assert record == {"age": 2, "zone": 3, "plan": "basic"}


class Slow:
    """A clock that each lookup moves forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def lookup(self, seconds: float) -> Callable[[Any], Any]:
        def find(record: Any) -> Any:
            self.now += seconds
            return (1.0,), ("x",)

        return find


@given(st.lists(st.floats(0, 3), max_size=6), st.floats(0, 6))
def test_slice_of_the_budget_is_kept(costs: list[float], slice_s: float) -> None:
    """What ends within the slice counts; what ends after it, and what comes after that untried, is late and missing."""
    clock = Slow()
    missing = ((math.nan,), (None,))
    enricher = Enricher([(clock.lookup(cost), missing) for cost in costs], RowSchema(), lambda: clock.now)
    found = enricher.add({}, slice_s)
    spent, expected = 0.0, []
    for cost in costs:
        if spent < slice_s:
            spent += cost
        expected.append(HIT if spent < slice_s else LATE)
    assert list(marks_of(found.marks, len(costs))) == expected
    assert [text is not None for text in found.strings] == [mark == HIT for mark in expected]


def test_columns_are_in_declared_order(folder: Path) -> None:
    """Numbers and strings of several lookups lie side by side in the order in which they were declared."""
    lookups = [function(folder, "double"), table()]
    assert columns_of(lookups) == RowSchema(("twice", "price"), ("shout", "label"))
    found = compile_enricher(lookups, folder, OWN).add({"age": 1, "plan": "gold"})
    assert found == Enriched((2.0, 25.5), ("GOLD", None), 0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"table": "absent.csv"}, "cannot be read"),
        ({"key": "nowhere"}, "no request field"),
        ({"columns": {"nothing": "number"}}, "has no column 'nothing'"),
        ({"columns": {"label": "number"}}, "not a number"),
        ({"columns": {"age": "number"}}, "there already"),
        ({"function": "a:b"}, "either `table` and `key` or `function`"),
        ({"table": "", "function": "no_such_module:name"}, "cannot be imported"),
        ({"table": "", "function": "json:no_such_name"}, "cannot be imported"),
        ({"table": "", "function": ":"}, "cannot be imported"),
        ({"table": "", "function": "math:pi"}, "cannot be called"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(folder: Path, change: dict[str, Any], problem: str) -> None:
    """A lookup that could never work is a configuration error that names it."""
    with pytest.raises(ConfigError, match=problem):
        compile_enricher([table(**change)], folder, OWN)


@pytest.mark.parametrize(("text", "problem"), [("plan,price\na,1\na,2\n", "twice"), ("plan,price\n,1\n", "no usable")])
def test_ambiguous_tables_are_refused(folder: Path, text: str, problem: str) -> None:
    """A table with a key twice, or a row without one, is refused."""
    (folder / "plans.csv").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        compile_enricher([table(columns={"price": "number"})], folder, OWN)


def test_too_many_lookups_are_refused(folder: Path) -> None:
    """There are as many lookups as a row's marks have room for."""
    lookups = [table(columns={f"price{at}": "number"}) for at in range(33)]
    with pytest.raises(ConfigError, match="33 lookups"):
        compile_enricher(lookups, folder, OWN)
