"""The demo's verdict: no lost, doubled or unrecorded request goes unnoticed."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.cli.demo.verdict import Fault, Line, broken, faults, ledger, swap
from rdv.serving.recording.match import match_ids

IDS = [f"id{n}" for n in range(20)]
COUNTED = {"accepted": 20, "answered": 17, "defaults": 3, "errors": 0}


def lines(
    answers: Sequence[tuple[str, int]] = tuple((one, 200) for one in IDS),
    counted: dict[str, int] = COUNTED,
    recorded: Sequence[str] = IDS,
    archived: Sequence[str] = IDS,
    dropped: int = 0,
) -> list[Line]:
    """The ledger of 20 requests, all well unless told otherwise."""
    matched = match_ids({name for name, status in answers if status == 200}, archived, recorded)
    return ledger(20, answers, counted, matched, dropped)


def test_a_clean_run_holds() -> None:
    """When every request was accepted, answered, recorded and archived once, nothing is broken."""
    assert broken(lines()) == []


def test_counted_drops_balance_the_journal() -> None:
    """A row that the decoy did not get is fine when it was counted, and only then."""
    assert broken(lines(archived=IDS[:-1], dropped=1)) == []
    assert broken(lines(archived=IDS[:-1])) == ["kept + dropped = accepted", "kept by the decoy, by id, once each"]


@pytest.mark.parametrize("status", [0, 400, 500, 503])
@given(lost=st.integers(0, 19))
def test_every_lost_request_is_noticed(status: int, lost: int) -> None:
    """One request without a good answer, whichever it is, breaks the ledger."""
    answers = [(one, status if place == lost else 200) for place, one in enumerate(IDS)]
    assert "lost: sent and never answered with 200" in broken(lines(answers=answers))


@given(st.integers(0, 19), st.integers(0, 19))
def test_an_answer_given_twice_is_noticed(one: int, other: int) -> None:
    """Two answers under one id are two promises broken, if they are not the same request."""
    answers = [(IDS[one] if place == other else name, 200) for place, name in enumerate(IDS)]
    assert bool(broken(lines(answers=answers))) == (one != other)


def test_rows_that_nobody_asked_for_are_noticed() -> None:
    """A journal with another id, or the same id twice, is not the requests' journal, whatever its length."""
    assert "kept by the decoy, by id, once each" in broken(lines(archived=[*IDS[:-1], "stranger"]))
    assert "kept by the decoy, by id, once each" in broken(lines(archived=[*IDS[:-1], IDS[0]]))


def test_a_gateway_that_miscounts_is_noticed() -> None:
    """Accepted has to be the sum of the three ways in which a request ends."""
    assert broken(lines(counted={**COUNTED, "answered": 16})) == ["accepted = answered + defaults + errors"]


def test_a_missing_event_is_noticed() -> None:
    """Every answered request has its event."""
    assert broken(lines(recorded=IDS[1:])) == ["recorded as events, by id, once each"]


def test_a_fault_without_a_trace_is_a_failure() -> None:
    """A fault that changed no answer and restarted nothing was none; one that never healed failed as well."""
    done = [
        Fault("killed", 12, 1, 0.8),
        Fault("stopped", 0, 1, 1.5),
        Fault("nothing", 0, 0, 0.1),
        Fault("dead", 5, 0, None),
    ]
    assert [line.holds for line in faults(done)] == [True, True, False, False]


def test_both_versions_must_have_answered() -> None:
    """A swap in mid-traffic shows as answers of the old and of the new version."""
    answers = [("a", "v1"), ("a", "v2"), ("b", "v1"), ("a", "v2")]
    assert [(line.requests, line.holds) for line in swap(["v1", "v2"], answers, "a")] == [(1, True), (2, True)]
    assert broken(swap(["v1", "v3"], answers, "a")) == ["answered by a v3 after the swap"]
