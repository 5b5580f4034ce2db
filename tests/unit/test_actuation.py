"""Canaries on a cluster follow their rollout's row, whatever was killed on the way."""

from collections.abc import Callable
from typing import Any

import pytest

from rdv.backends.ports_services import CanaryState, Pin
from rdv.errors import LostRace, Refused, RolloutFailed, TimedOut
from rdv.records import Rollout, RolloutState
from rdv.releases.actuation import Actuator

ROW = Rollout(model="m", number=1, version="v2", serial=2, instead_of="v1", canaries=3)


class Cluster:
    """Canaries as a cluster has them; `states`: what is told one look after another. wanted: how many there are."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.calls: list[str] = []
        self.pin: Pin | None = None
        self.refusals, self.wanted, self.busy = 0, 3, 0

    def start(self, model: str, pin: Pin, count: int, manifest: object = None) -> str:
        self.calls.append(f"start {count}")
        if self.busy:
            self.busy -= 1
            raise LostRace("its job is being changed")
        self.pin = pin
        return "7"

    def find(self, model: str, pin: Pin) -> str:
        return "7" if self.pin == pin else ""

    def look(self, model: str, mark: str) -> CanaryState:
        if mark != "7":
            return CanaryState(mark=mark, pin=ROW.pin, state="gone")
        state: Any = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        reason = "it said no" if state == "failed" else ""
        return CanaryState(mark=mark, pin=ROW.pin, state=state, wanted=self.wanted, reason=reason)

    def promote(self, model: str, mark: str) -> None:
        self.calls.append(f"promote {mark}")
        if self.refusals:
            self.refusals -= 1
            raise Refused("it has 1/2 healthy allocations")

    def drop(self, model: str, mark: str) -> None:
        self.calls.append(f"drop {mark}")


def of(cluster: Cluster, then: Callable[[float], None] = lambda s: None) -> Actuator:
    both: Any = cluster
    return Actuator(both, then)


def row(state: RolloutState, mark: str = "7") -> Rollout:
    return Rollout(
        model="m", number=1, version="v2", serial=2, instead_of="v1", canaries=3, state=state, mark=mark
    )  # fmt: skip


def test_canaries_are_begun_once() -> None:
    """A row with a mark has its canaries; one without begins them, which is the same again for the same pin."""
    cluster = Cluster("starting")
    assert of(cluster).begin(ROW) == "7"
    assert of(cluster).begin(row(RolloutState.PLANNED)) == "7"
    assert (cluster.calls, cluster.pin) == (["start 3"], Pin("v2", 2))


def test_canaries_begin_when_what_is_on_its_way_has_ended() -> None:
    """As when the ones before them were dropped a moment ago; without the time for it, that is a lost race."""
    cluster = Cluster("starting")
    cluster.busy = 2
    assert of(cluster).begin(ROW, timeout_s=60.0) == "7"
    assert cluster.calls == ["start 3"] * 3
    cluster.busy = 1
    with pytest.raises(LostRace):
        of(cluster).begin(ROW)


def test_another_number_of_canaries_begins_so_many() -> None:
    """Running ones are replaced, also where a command was killed on its way; failed and ended ones are not revived."""
    for state, wanted, mark, pin, calls in (
        ("healthy", 2, "7", ROW.pin, ["start 3"]),
        ("starting", 5, "7", ROW.pin, ["start 3"]),
        ("healthy", 3, "7", ROW.pin, []),
        ("healthy", 3, "6", ROW.pin, ["start 3"]),
        ("healthy", 3, "6", Pin("v9", 2), []),
        ("failed", 2, "7", None, []),
    ):
        cluster = Cluster(state)
        cluster.wanted, cluster.pin = wanted, pin
        of(cluster).begin(row(RolloutState.CANARY, mark))
        assert cluster.calls == calls, (state, wanted, mark)


@pytest.mark.parametrize(("state", "told"), [("failed", "it said no"), ("gone", "somebody else changed their job")])
def test_canaries_that_will_not_come_are_told(state: str, told: str) -> None:
    """Failed or replaced by another writer: the rollout hears of it, with the reason; healthy or starting is fine."""
    with pytest.raises(Refused, match=told):
        of(Cluster(state)).check(row(RolloutState.PLANNED))
    for fine in ("starting", "healthy"):
        of(Cluster(fine)).check(row(RolloutState.CANARY))
    of(Cluster(state)).check(row(RolloutState.ROLLED_BACK))


def test_a_promoted_rollout_makes_its_canaries_the_workers() -> None:
    """Promoted once they are healthy, waited for until every worker is one; promoted ones are left alone."""
    cluster = Cluster("starting", "healthy", "promoting", "promoted")
    of(cluster).end(row(RolloutState.PROMOTED), 60.0)
    assert cluster.calls == ["promote 7"]
    cluster = Cluster("promoted")
    of(cluster).end(row(RolloutState.PROMOTED), 60.0)
    assert cluster.calls == []
    with pytest.raises(TimedOut, match="rdv promote"):
        of(Cluster("starting")).end(row(RolloutState.PROMOTED), 0.0)
    with pytest.raises(RolloutFailed, match="is served.*it said no"):
        of(Cluster("failed")).end(row(RolloutState.PROMOTED), 60.0)


def test_canaries_that_are_not_well_at_this_moment_are_promoted_a_moment_later() -> None:
    """A refusal to promote ends nothing by itself: it is asked again while there is time, and told at its end."""
    cluster = Cluster("healthy", "healthy", "healthy", "promoted")
    cluster.refusals = 1
    of(cluster).end(row(RolloutState.PROMOTED), 60.0)
    assert cluster.calls == ["promote 7", "promote 7"]
    cluster = Cluster("healthy")
    cluster.refusals = 1
    with pytest.raises(TimedOut, match="has 1/2 healthy"):
        of(cluster).end(row(RolloutState.PROMOTED), 0.0)


def test_a_rollout_that_was_rolled_back_drops_its_canaries_also_without_their_mark() -> None:
    """Whoever began or resized them may have been killed before writing the mark: their pin says they are there."""
    for mark, pin, calls in (
        ("7", None, ["drop 7"]),
        ("", ROW.pin, ["drop 7"]),
        ("6", ROW.pin, ["drop 7"]),
        ("", None, []),
        ("", Pin("v9", 2), []),
    ):
        cluster = Cluster("healthy")
        cluster.pin = pin
        of(cluster).end(row(RolloutState.ROLLED_BACK, mark), 1.0)
        assert cluster.calls == calls
