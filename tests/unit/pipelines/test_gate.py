"""The gate: each thing that can be wrong with a model is a reason, and nothing else is."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.pipelines.gate import Evidence, Verdict, judge

GOOD = Evidence(
    metric="auc",
    maximise=True,
    value=0.8,
    floor=0.7,
    champion=0.79,
    rows=100,
    different=90,
    unusable=0,
    probes=20,
    replayed=50,
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": 0.69}, "misses the floor"),
        ({"value": 0.75}, "worse than the champion"),
        ({"value": None}, "not defined"),
        ({"value": math.nan}, "floor"),
        ({"different": 1}, "same answer"),
        ({"unusable": 3}, "3 of 100"),
        ({"probes_unusable": 1, "probe_example": "{}"}, "for example {}"),
        ({"round_trip": 1e-3}, "fresh process"),
        ({"round_trip": math.inf}, "fresh process"),
        ({"round_trip": math.nan}, "fresh process"),
        ({"replay": 1e-3}, "replayed"),
        ({"replayed": 0, "invalid_example": "age: too large"}, "age: too large"),
    ],
)
def test_each_fault_is_a_reason(change: dict[str, object], reason: str) -> None:
    """A model with one fault is refused, and the reason names it."""
    verdict = judge(msgspec.structs.replace(GOOD, **change))
    assert not verdict.passed
    assert any(reason in told for told in verdict.reasons)


def test_a_good_model_passes() -> None:
    """A model without fault passes; matching the champion or the floor exactly is enough."""
    assert judge(GOOD) == Verdict(True, (), GOOD)
    assert judge(msgspec.structs.replace(GOOD, champion=0.8, floor=0.8)).passed
    assert judge(msgspec.structs.replace(GOOD, champion=None, floor=None)).passed


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_better_is_a_matter_of_direction(value: float, champion: float, maximise: bool) -> None:
    """A model passes when it is at least as good as the champion in the metric's own direction."""
    evidence = msgspec.structs.replace(GOOD, value=value, champion=champion, floor=None, maximise=maximise)
    better = value >= champion if maximise else value <= champion
    assert judge(evidence).passed or not better


def test_every_reason_is_told() -> None:
    """Several faults are all told, so that one run shows the whole picture."""
    assert len(judge(msgspec.structs.replace(GOOD, value=0.1, different=1, unusable=1, round_trip=1.0)).reasons) == 5
