"""What validation measures: usable answers, differences of scores, and rows on a request's way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdv.config import Config, Goal, Lookup, Model, Project
from rdv.errors import ModelUnloadable
from rdv.inputs import InputField, InputSpec
from rdv.manifest import ModelInfo
from rdv.pipelines.base import Context
from rdv.pipelines.dataset import row_schema
from rdv.pipelines.features import table_rows
from rdv.pipelines.replay_rows import as_requests
from rdv.pipelines.rescore import fresh_scores
from rdv.pipelines.tables import table_from_columns
from rdv.pipelines.validate import distance, usable

INPUTS = InputSpec((InputField("a"),))


def info(kind: str, labels: tuple[str, ...] = ()) -> ModelInfo:
    return ModelInfo(file="model.json", flavour="sum", kind=kind, inputs=INPUTS, labels=labels)


@pytest.mark.parametrize(
    ("kind", "rows", "good"),
    [
        ("probability", [[0.0], [1.0], [1.1], [-0.1], [np.nan]], [True, True, False, False, False]),
        ("number", [[-5.0], [1e300], [np.inf], [np.nan]], [True, True, False, False]),
        ("labels", [[0.2, 0.8], [0.5, 0.6], [np.nan, 1.0], [1.2, -0.2]], [True, False, False, False]),
    ],
)
def test_answers_that_can_be_used(kind: str, rows: list[list[float]], good: list[bool]) -> None:
    """A probability lies between 0 and 1, labels' probabilities add up to 1, a number is finite."""
    assert usable(info(kind), np.array(rows)).tolist() == good


@given(arrays(np.float64, (5, 2), elements=st.floats(-1e9, 1e9) | st.just(np.nan)))
def test_scores_agree_with_themselves_only(scores: np.ndarray) -> None:
    """A matrix is at distance 0 from itself; a missing value in one place, or another shape, is infinitely far."""
    assert distance(scores, scores.copy()) == 0
    assert distance(scores, scores[:4]) == np.inf
    other = scores.copy()
    other[0, 0] = 0.0 if np.isnan(other[0, 0]) else np.nan
    assert distance(scores, other) == np.inf
    moved = np.nan_to_num(scores)
    assert distance(moved, moved + 0.5) > 0


def context(folder: Path, *lookups: Lookup) -> Context:
    """A goal with a number, a whole number, a boolean and a text."""
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "number", "maximum": 10},
            "n": {"type": "integer"},
            "b": {"type": ["boolean", "null"]},
            "t": {"type": "string"},
        },
        "required": ["a"],
    }
    goal = Goal(schema=schema, budget_ms=1.0, default=0.5, enrich=lookups)
    return Context(Project(folder, Config(goals={"g": goal}, models={"m": Model(goal="g")})), "m")


def test_rows_go_the_way_of_requests(tmp_path: Path) -> None:
    """Rows of a table sent as JSON through decoder and packing are the rows of the table; invalid ones are counted."""
    there = context(tmp_path)
    table = table_from_columns(
        {"a": [1.5, 2.0, 11.0], "n": [1, None, 3], "b": [True, None, False], "t": ["x", None, "z"]}
    )
    documents = table.records(range(3), ["a", "n", "b", "t"])
    sent = as_requests(there, documents)
    assert (sent.places, sent.invalid) == ([0, 1], 1)
    assert "a" in sent.example
    direct = table_rows(row_schema(there), table, [0, 1])
    assert np.array_equal(sent.rows.numbers, direct.numbers, equal_nan=True)
    assert [list(column) for column in sent.rows.strings] == [list(column) for column in direct.strings]


def test_looked_up_columns_come_from_history_or_from_the_enricher(tmp_path: Path) -> None:
    """What the data recorded of a lookup stands in for it; without a record the enricher is asked."""
    (tmp_path / "more.csv").write_text("t,weight,kind\nx,7,old\n")
    there = context(tmp_path, Lookup(columns={"weight": "number", "kind": "string"}, table="more.csv", key="t"))
    recorded = table_from_columns({"a": [1.0], "t": ["x"], "weight": [3.0], "kind": ["new"]})
    documents = recorded.records([0], ["a", "t"])
    known = table_rows(row_schema(there), recorded, [0])
    for rows, weight, kind in ((known, 3.0, "new"), (None, 7.0, "old")):
        sent = as_requests(there, documents, rows)
        assert sent.rows.numbers[0, -1] == weight
        assert sent.rows.strings[-1] == [kind]


def test_a_fresh_process_scores_or_says_why_not(tmp_path: Path) -> None:
    """A model is loaded and scored elsewhere; one that cannot be loaded there is an error with its words."""
    model = tmp_path / "model.json"
    model.write_text('{"offset": 2.0}')
    (tmp_path / "work").mkdir()
    matrix = np.array([[1.0], [np.nan]])
    scores = fresh_scores(info("number"), model, matrix, tmp_path / "work")
    assert np.array_equal(scores, np.array([[3.0], [np.nan]]), equal_nan=True)
    model.write_text("{")
    with pytest.raises(ModelUnloadable, match="fresh process"):
        fresh_scores(info("number"), model, matrix, tmp_path / "work")
