"""Splits and labels: no row leaks into two parts, and the same data is always split the same way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.config import Split
from rdv.errors import ConfigError, InputError
from rdv.pipelines.labels import encode_answers
from rdv.pipelines.splits import split_rows
from rdv.pipelines.tables import Table, string_column, table_from_columns


def table(rows: int, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    return table_from_columns(
        {
            "x": random.normal(size=rows).tolist(),
            "t": [f"t{n}" for n in random.integers(0, 5, rows)],
            "who": [f"p{n}" for n in random.integers(0, 60, rows)],
            "when": random.integers(0, 40, rows).tolist(),
        }
    )


@given(st.permutations(range(300)))
def test_a_rows_part_does_not_depend_on_its_place(order: list[int]) -> None:
    """Rows in another order fall into the same parts, for every kind of split."""
    data = table(300)
    turned = data.take(np.array(order))
    for split in (Split(), Split(by="group", field="who"), Split(by="time", field="when")):
        assert np.array_equal(split_rows(split, data)[order], split_rows(split, turned))


def test_new_rows_do_not_move_old_ones() -> None:
    """A random or group split of more data keeps every earlier row where it was."""
    for split in (Split(), Split(by="group", field="who")):
        assert np.array_equal(split_rows(split, table(2000))[:300], split_rows(split, table(2000).take(np.arange(300))))


@given(st.permutations(range(120)))
def test_equal_rows_are_split_as_by_lot(order: list[int]) -> None:
    """Of many equal rows each part gets its share, the same however the rows are ordered."""
    data = table_from_columns({"x": [1, 2, 3] * 40, "t": ["a"] * 120})
    parts, turned = split_rows(Split(), data), split_rows(Split(), data.take(np.array(order)))
    for value in (1.0, 2.0, 3.0):
        one = parts[data.columns["x"].data == value]
        other = turned[data.columns["x"].data[order] == value]
        assert sorted(one.tolist()) == sorted(other.tolist())
        assert 0.3 < (one == 0).mean() < 0.9


def test_groups_stay_together() -> None:
    """All rows of a group are in one part."""
    data = table(1000)
    parts = split_rows(Split(by="group", field="who"), data)
    for code in range(60):
        assert len(set(parts[data.columns["who"].data == code].tolist())) <= 1


@pytest.mark.parametrize("text", [False, True])
def test_time_goes_forward(text: bool) -> None:
    """Training moments lie before validation moments, those before test moments; ties stay together."""
    data = table(1000)
    if text:
        when = data.columns["when"].data
        data = Table(
            {**data.columns, "when": string_column(f"2024-01-01T{int(n) // 60:02d}:{int(n) % 60:02d}:00" for n in when)}
        )
    parts, when = split_rows(Split(by="time", field="when"), data), table(1000).columns["when"].data
    assert when[parts == 0].max() < when[parts == 1].min()
    assert when[parts == 1].max() < when[parts == 2].min()
    assert abs((parts == 0).mean() - 0.6) < 0.05


@given(st.integers(0, 2**31), st.floats(0.1, 0.4), st.floats(0.1, 0.4))
def test_shares_are_what_was_asked_for(seed: int, validation: float, test: float) -> None:
    """Of many different rows the parts get about the shares asked for, whatever the seed."""
    parts = split_rows(Split(seed=seed, validation=validation, test=test), table(3000))
    assert abs((parts == 1).mean() - validation) < 0.06
    assert abs((parts == 2).mean() - test) < 0.06


def test_seeds_differ() -> None:
    """Another seed is another split."""
    assert not np.array_equal(split_rows(Split(seed=1), table(500)), split_rows(Split(seed=2), table(500)))


@pytest.mark.parametrize(
    "split",
    [
        Split(validation=0.0), Split(validation=0.6, test=0.4), Split(by="time", field="one"),
        Split(by="group", field="one"),
    ],
)  # fmt: skip
def test_a_part_without_rows_is_refused(split: Split) -> None:
    """A split that would leave a part empty is a configuration error."""
    data = table(100)
    with pytest.raises(ConfigError):
        split_rows(split, Table({**data.columns, "one": string_column(["2024-01-01"] * 100)}))


@pytest.mark.parametrize(
    "split", [Split(by="group", field="gone"), Split(by="time", field="t"), Split(by="group", field="hole")]
)
def test_a_split_field_that_cannot_be_used_is_named(split: Split) -> None:
    """A field that is missing, holds no time or has holes is named in the error."""
    data = table(100)
    with pytest.raises(InputError, match=split.field):
        split_rows(split, Table({**data.columns, "hole": string_column([None, *["a"] * 99])}))


def test_two_classes_become_zero_and_one() -> None:
    """The positive class is the larger of two unless told; rows without a label are marked."""
    column = table_from_columns({"y": [0, 1, None, 1]}).columns["y"]
    found = encode_answers("probability", column)
    assert (found.labels, found.positive) == (("0", "1"), "1")
    assert found.values[found.known].tolist() == [0, 1, 1]
    assert encode_answers("probability", column, positive="0").values[0] == 1
    text = encode_answers("probability", string_column(["yes", "no"]), positive="no")
    assert text.values.tolist() == [0, 1]
    assert encode_answers("probability", table_from_columns({"y": [9, 10]}).columns["y"]).positive == "10"


def test_labels_keep_the_goals_order() -> None:
    """Label numbers are places in the goal's own list, else in sorted order."""
    column = string_column(["b", "a", "c"])
    assert encode_answers("labels", column, ("c", "b", "a")).values.tolist() == [1, 2, 0]
    assert encode_answers("labels", column).labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("kind", "values", "settings"),
    [
        ("probability", ["a", "b", "c"], {}),
        ("probability", ["a", "b"], {"positive": "x"}),
        ("labels", ["a", "b"], {"labels": ("a",)}),
        ("number", ["a", "b"], {}),
        ("number", [None, None], {}),
    ],
)
def test_labels_that_do_not_fit_the_goal_are_refused(
    kind: str, values: list[object], settings: dict[str, object]
) -> None:
    """Three classes for a probability, an unknown label, text for a number: input errors that say what was found."""
    with pytest.raises(InputError):
        encode_answers(kind, table_from_columns({"y": values}).columns["y"], **settings)  # type: ignore[arg-type]
