"""Lookups that fail again and again where requests are answered: left out for a while, and tried again."""

import math
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rdv.breaker import Breaker, State
from rdv.enrich import HIT, LATE, MISSED, SKIPPING, Enricher, Row, marks_of
from rdv.inputs import RowSchema

MISSING: Row = ((math.nan,), (None,))
FOUND: Row = ((1.0,), ("x",))
SLICE_S = 0.016


class Stage:
    """A clock, and functions that take time on it, raise (None) or return, as they are told; `calls` of them."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0
        self.cost_s, self.result = 0.001, FOUND

    def clock(self) -> float:
        return self.now

    def find(self, record: Any) -> Row | None:
        self.calls += 1
        self.now += self.cost_s
        return self.result

    def table(self, record: Any) -> Row | None:
        return FOUND

    def enricher(self, breaker: Breaker | None) -> Enricher:
        """A table, then the function behind the breaker."""
        lookups: list[tuple[Callable[[Any], Row | None], Row]] = [(self.table, MISSING), (self.find, MISSING)]
        return Enricher(lookups, RowSchema(), self.clock, [None, breaker])

    def marks(self, enricher: Enricher) -> tuple[int, ...]:
        """The marks of one more request, a hundredth of a second later."""
        self.now += 0.01
        return marks_of(enricher.add({}, SLICE_S).marks, 2)


def failing(result: Row | None, cost_s: float) -> tuple[Stage, Breaker, Enricher]:
    """A function that fails from now on."""
    stage, breaker = Stage(), Breaker("lookup m:f", SKIPPING)
    stage.result, stage.cost_s = result, cost_s  # type: ignore[assignment]
    return stage, breaker, stage.enricher(breaker)


def test_a_function_that_always_raises_is_left_out() -> None:
    """After ten failures in a row it is not called any more, its columns are marked as missing, tables go on."""
    stage, breaker, enricher = failing(None, 0.001)
    assert {stage.marks(enricher) for _ in range(40)} == {(HIT, MISSED)}
    assert stage.calls == SKIPPING.failures
    assert breaker.state is State.OPEN
    stage.result, stage.now = FOUND, stage.now + SKIPPING.first_s
    assert [stage.marks(enricher) for _ in range(3)] == [(HIT, HIT)] * 3
    assert breaker.state is State.CLOSED


def test_a_function_that_hangs_is_left_out_at_once() -> None:
    """One call of two seconds, in which nobody is answered, is enough; the next comes after a hundred."""
    stage, breaker, enricher = failing(FOUND, 2.0)
    assert stage.marks(enricher) == (HIT, LATE)
    began = stage.now
    while stage.calls == 1:
        marks = stage.marks(enricher)
        assert marks == ((HIT, MISSED) if stage.calls == 1 else (HIT, LATE))
    assert 95 < stage.now - began < 105
    assert "it took 2000 ms of 16 ms" in breaker.reason


def test_a_function_that_is_a_little_late_is_left_out_after_ten() -> None:
    """Being late counts as once when it is by little."""
    stage, _, enricher = failing(FOUND, SLICE_S * 1.5)
    assert [stage.marks(enricher) for _ in range(10)] == [(HIT, LATE)] * 10
    assert stage.marks(enricher) == (HIT, MISSED)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_failures_between_successes_change_nothing(works: list[bool]) -> None:
    """Unless ten in a row fail, every request tries, and gets what it would get without a breaker."""
    stage, breaker, enricher = failing(None, 0.001)
    row = 0
    for one in works:
        row = 0 if one else row + 1
        if row >= SKIPPING.failures:
            return
        stage.result = FOUND if one else None  # type: ignore[assignment]
        assert stage.marks(enricher) == (HIT, HIT if one else MISSED)
    assert stage.calls == len(works)
    assert breaker.state is State.CLOSED


def test_whoever_was_late_because_of_others_is_not_blamed() -> None:
    """A quick function after a slow one keeps its breaker closed."""
    stage = Stage()
    slow, quick = Breaker("slow", SKIPPING), Breaker("quick", SKIPPING)

    def slowly(record: Any) -> Row | None:
        stage.now += SLICE_S * 0.95
        return FOUND

    def quickly(record: Any) -> Row | None:
        stage.now += SLICE_S * 0.1
        return FOUND

    enricher = Enricher([(slowly, MISSING), (quickly, MISSING)], RowSchema(), stage.clock, [slow, quick])
    assert {stage.marks(enricher) for _ in range(50)} == {(HIT, LATE)}
    assert slow.state is quick.state is State.CLOSED


def test_without_a_breaker_nothing_is_left_out() -> None:
    """Where rows are computed again, in replay and validation, every call is made."""
    stage = Stage()
    stage.result = None  # type: ignore[assignment]
    enricher = stage.enricher(None)
    assert {stage.marks(enricher) for _ in range(50)} == {(HIT, MISSED)}
    assert stage.calls == 50
