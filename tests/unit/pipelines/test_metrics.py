"""Metrics: against their definitions, and the properties that define them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdv.errors import ConfigError
from rdv.pipelines.metrics import METRICS, at_least_as_good, compute_all, metric

grid = st.integers(0, 20).map(lambda n: n / 20)


@st.composite
def binary(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 30))
    answers = draw(arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0])))
    assume(0 < answers.sum() < n)
    return answers, draw(arrays(np.float64, (n, 1), elements=grid))


def compute(kind: str, name: str, answers: object, scores: object) -> float:
    return METRICS[kind][name].compute(
        np.asarray(answers, float), np.asarray(scores, float).reshape(len(np.asarray(answers)), -1)
    )


@given(binary())
def test_auc_is_the_chance_to_rank_a_pair_rightly(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """AUC equals the share of positive-negative pairs in the right order, ties counting half."""
    answers, scores = rows
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in scores[answers == 1, 0] for n in scores[answers == 0, 0]]
    assert compute("probability", "auc", answers, scores) == pytest.approx(np.mean(pairs))


@given(binary())
def test_auc_sees_order_only(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """A growing function of the scores leaves AUC and average precision alone; turning them round mirrors AUC."""
    answers, scores = rows
    for name in ("auc", "average_precision"):
        assert compute("probability", name, answers, scores) == pytest.approx(
            compute("probability", name, answers, np.exp(3 * scores))
        )
    mirrored = compute("probability", "auc", answers, -scores)
    assert compute("probability", "auc", answers, scores) == pytest.approx(1 - mirrored)


@given(binary())
def test_no_metric_depends_on_the_order_of_rows(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """Rows turned round give every binary metric the same value."""
    answers, scores = rows
    one, other = compute_all("probability", answers, scores), compute_all("probability", answers[::-1], scores[::-1])
    assert one == pytest.approx(other)
    assert set(one) == set(METRICS["probability"])


@given(binary())
def test_perfect_scores_are_best(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """No scores beat those that are the answers themselves."""
    answers, scores = rows
    for name, one in METRICS["probability"].items():
        best = one.compute(answers, answers[:, None].copy())
        assert at_least_as_good(one.maximise, best, one.compute(answers, scores)), name


def test_known_values() -> None:
    """Small cases that can be checked by hand."""
    answers, scores = [1, 0, 1, 0], [0.9, 0.8, 0.6, 0.1]
    assert compute("probability", "auc", answers, scores) == 0.75
    assert compute("probability", "average_precision", answers, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert compute("probability", "accuracy", answers, scores) == 0.75
    assert compute("probability", "brier", answers, scores) == pytest.approx((0.01 + 0.64 + 0.16 + 0.01) / 4)
    logs = -(math.log(0.9) + math.log(0.2) + math.log(0.6) + math.log(0.9)) / 4
    assert compute("probability", "logloss", answers, scores) == pytest.approx(logs)
    assert compute("number", "rmse", [1, 3], [2, 5]) == pytest.approx(math.sqrt(2.5))
    assert compute("number", "mae", [1, 3], [2, 5]) == 1.5
    assert compute("number", "r2", [1, 3], [1, 3]) == 1
    assert compute("labels", "accuracy", [0, 2], [[0.6, 0.3, 0.1], [0.1, 0.6, 0.3]]) == 0.5
    assert compute("labels", "logloss", [0, 2], [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]) == pytest.approx(
        -(math.log(0.5) + math.log(0.8)) / 2
    )


@given(arrays(np.float64, 12, elements=st.floats(-100, 100)), st.floats(0.1, 10))
def test_errors_scale_with_the_unit(scores: np.ndarray, factor: float) -> None:
    """In another unit rmse and mae grow by its factor and r2 stays."""
    answers = np.arange(12.0)
    before, after = (
        compute_all("number", answers, scores[:, None]),
        compute_all("number", answers * factor, scores[:, None] * factor),
    )
    for name, grown in (("rmse", factor), ("mae", factor), ("r2", 1.0)):
        assert after[name] == pytest.approx(before[name] * grown, rel=1e-6, abs=1e-6)


def test_undefined_metrics_are_left_out() -> None:
    """With one class AUC does not exist, and is not told as a number."""
    found = compute_all("probability", np.ones(3), np.full((3, 1), 0.5))
    assert "auc" not in found
    assert found["accuracy"] == 1


def test_certain_and_wrong_is_bad_but_finite() -> None:
    """A probability of 0 for what happened costs much, not infinitely much."""
    assert 30 < compute("probability", "logloss", [1.0], [0.0]) < 40


def test_names_and_directions() -> None:
    """Every kind has a default metric; the direction can be overridden; an unknown name lists the known ones."""
    assert [metric(kind).name for kind in ("probability", "labels", "number")] == ["auc", "logloss", "rmse"]
    assert metric("number", "rmse", "maximise").maximise
    with pytest.raises(ConfigError, match="rmse"):
        metric("number", "auc")


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.booleans())
def test_one_of_two_is_at_least_as_good(one: float, other: float, maximise: bool) -> None:
    """Of two values at least one matches the other; NaN never matches."""
    assert at_least_as_good(maximise, one, other) or at_least_as_good(maximise, other, one)
    assert at_least_as_good(maximise, one, one)
    assert not at_least_as_good(maximise, math.nan, one)
