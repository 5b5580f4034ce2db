"""Two versions' scores beside each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.serving.recording.comparison import MOST_PAIRS, compare

PROBABILITIES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


@given(PROBABILITIES)
def test_a_version_agrees_with_itself(rows: list[tuple[float, float]]) -> None:
    """The same scores have agreement 1, distance 0 and equal quantiles, whatever the kind of answer."""
    column = np.array([[one] for one, _ in rows])
    vectors = np.array(rows)
    kinds = (("probability", (), column), ("number", (), column), ("labels", ("a", "b"), vectors))
    for answer, labels, scores in kinds:
        found = compare(answer, labels, scores, scores.copy())
        assert found.requests == len(rows)
        assert found.agreement == 1.0
        for one in found.columns:
            assert one.largest_distance == one.mean_difference == 0.0
            assert all(row.score == row.other for row in one.quantiles)


@given(PROBABILITIES)
def test_agreement_and_distance_are_symmetric(rows: list[tuple[float, float]]) -> None:
    """Of probabilities, it does not matter which version comes first, but for the sign of the mean difference."""
    one, other = np.array([[a] for a, _ in rows]), np.array([[b] for _, b in rows])
    there, back = compare("probability", (), one, other), compare("probability", (), other, one)
    assert there.agreement == back.agreement == np.mean((one >= 0.5) == (other >= 0.5))
    assert there.columns[0].mean_difference == pytest.approx(-back.columns[0].mean_difference)
    assert there.columns[0].mean_distance == back.columns[0].mean_distance


def test_rows_without_a_score_on_either_side_are_left_out() -> None:
    """Only requests that both have scored are compared; with none there is no agreement to speak of."""
    scores, others = np.array([[0.1], [np.nan], [0.9]]), np.array([[0.2], [0.3], [np.nan]])
    assert compare("probability", (), scores, others).requests == 1
    nothing = compare("probability", (), scores[1:], others[1:])
    assert (nothing.requests, nothing.agreement, nothing.columns) == (0, None, ())


def test_labels_agree_on_the_most_probable_one() -> None:
    """Two vectors say the same when their largest value is at the same label; each label has its own column."""
    one, other = np.array([[0.6, 0.4], [0.2, 0.8]]), np.array([[0.9, 0.1], [0.7, 0.3]])
    found = compare("labels", ("yes", "no"), one, other)
    assert found.agreement == 0.5
    assert [column.name for column in found.columns] == ["yes", "no"]


def test_numbers_agree_within_a_hundredth_of_the_others_range() -> None:
    """Of numbers, small against the spread is the same, large is not."""
    others = np.linspace(0, 100, 101)[:, None]
    assert compare("number", (), others + 0.5, others).agreement == 1.0
    assert compare("number", (), others + 5.0, others).agreement == 0.0


def test_pairs_for_a_plot_are_bounded() -> None:
    """However many requests there are, a plot gets at most 2,000 of them, the first and the last among them."""
    scores = np.linspace(0, 1, 10_000)[:, None]
    pairs = compare("probability", (), scores, scores).columns[0].pairs
    assert len(pairs) == MOST_PAIRS
    assert (pairs[0], pairs[-1]) == ((0.0, 0.0), (1.0, 1.0))
