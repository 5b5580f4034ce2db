"""The report's figures, computed from events whose answers are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.cli.report.facts import Event, facts, rank_correlation, ranks


def event(second: float, answered_by: str, scores: dict[str, list[float]], version: str = "v1") -> Event:
    """A recorded request whose every score took one millisecond."""
    made = [
        SimpleNamespace(model=name, version=version, values=values, latency_ms=1.0, late=False)
        for name, values in scores.items()
    ]
    source, reason = ("tier 1", "") if answered_by else ("default", "no score in time")
    return SimpleNamespace(  # type: ignore[return-value]
        accepted_at=1e9 + second, model=answered_by, version=version if answered_by else "", source=source,
        reason=reason, elapsed_ms=2.0, scores=made,
    )  # fmt: skip


def test_every_request_is_counted_once() -> None:
    """Answers by model, defaults with their reasons, missing scores: each request appears in one place of each."""
    seen = [event(at, "a", {"a": [0.9], "b": [0.1]}) for at in range(8)]
    seen += [event(9, "", {"b": [0.2]}), event(9.5, "", {})]
    found = facts("g", "probability", seen)
    assert found.requests == 10
    assert found.sources == {"default": 2, "tier 1": 8}
    assert found.reasons == {"no score in time": 2}
    assert [(one.model, one.answered, one.scored, one.missing) for one in found.models] == [
        ("a", 8, 8, 2),
        ("b", 0, 9, 1),
    ]
    assert sum(counts.sum() for counts in found.timeline.values()) == 10
    assert list(found.timeline) == ["a v1", "default"]


def test_models_that_say_the_same_agree() -> None:
    """Equal scores are the same decision, no difference and the same order; opposite ones the reverse."""
    seen = [event(at, "a", {"a": [at / 10], "b": [at / 10], "c": [1 - at / 10]}) for at in range(10)]
    pairs = {(one.one, one.other): one for one in facts("g", "probability", seen).pairs}
    same, opposite = pairs["a", "b"], pairs["a", "c"]
    assert (same.same_decision, same.mean_difference, same.rank_correlation) == (1.0, 0.0, pytest.approx(1.0))
    assert opposite.rank_correlation == pytest.approx(-1.0)
    assert opposite.same_decision is not None
    assert opposite.same_decision < 0.2


def test_labels_agree_when_the_likeliest_is_the_same() -> None:
    """For a vector of labels the decision is the greatest entry's place, whatever its value."""
    seen = [event(0, "a", {"a": [0.2, 0.8], "b": [0.4, 0.6]}), event(1, "a", {"a": [0.9, 0.1], "b": [0.3, 0.7]})]
    assert facts("g", "labels", seen).pairs[0].same_decision == 0.5


def test_numbers_have_no_decision() -> None:
    """Models that answer plain numbers are compared by difference and order only."""
    seen = [event(at, "a", {"a": [at], "b": [at + 3.0]}) for at in range(4)]
    pair = facts("g", "number", seen).pairs[0]
    assert (pair.same_decision, pair.mean_difference) == (None, 3.0)


def test_no_event_is_no_error() -> None:
    """A goal without a recorded request has facts of zeros."""
    found = facts("g", "probability", [])
    assert (found.requests, found.models, found.pairs) == (0, [], [])


@given(st.lists(st.integers(0, 5), min_size=1).map(np.array))
def test_ranks_of_equal_values_are_shared(values: np.ndarray) -> None:
    """Ranks add up to those of distinct values, and equal values have equal ranks."""
    given_ranks = ranks(values.astype(float))
    assert given_ranks.sum() == pytest.approx(len(values) * (len(values) - 1) / 2)
    for value in set(values.tolist()):
        assert len(set(given_ranks[values == value].tolist())) == 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40).map(np.array))
def test_rank_correlation_is_bounded_and_one_with_itself(values: np.ndarray) -> None:
    """Spearman's coefficient lies in [-1, 1], is 1 for a copy, and no number for a constant."""
    itself = rank_correlation(values, values)
    if len(set(values.tolist())) == 1:
        assert math.isnan(itself)
    else:
        assert itself == pytest.approx(1.0)
        assert -1.0000001 <= rank_correlation(values, values[::-1]) <= 1.0000001
