"""Mailboxes under a state machine: settled exactly once, completed exactly once, every score in the books once."""

import math
import struct
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mailrooms import Looks, Waiter

from rdv.clock import ManualClock
from rdv.config import Tier
from rdv.serving.bus.port import Scores
from rdv.serving.gateway.answers import usable
from rdv.serving.gateway.mailbox import GRACE_S, Mailbox, Mailroom
from rdv.serving.gateway.policy import Decider, Decision, Policy

MODELS = ("champion", "runner_up", "canary")
TIERS = (Tier(25.0, ("champion",)), Tier(60.0, ("champion", "runner_up")))
POLICY = Policy(budget_ms=80.0, default=0.25, tiers=TIERS)


def room_of(complete: list[Mailbox], clock: ManualClock) -> tuple[Mailroom, Looks]:
    looks: Any = Looks()
    return Mailroom(MODELS, usable("probability", 1), complete.append, looks, clock), looks


def scores(ids: bytes, value: float, version: str = "v1", width: int = 1) -> Scores:
    n = len(ids) // 16
    return Scores("gw", version, ids, struct.pack(f"<{n * width}d", *[value] * (n * width)), width, 0, 1e-4, 2e-4)


class MailroomMachine(RuleBasedStateMachine):
    """Opens, scores, loses, waits and forgets in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.complete: list[Mailbox] = []
        self.room, self.looks = room_of(self.complete, self.clock)
        self.decider = Decider(POLICY, MODELS)
        self.opened: list[Mailbox] = []
        self.waiters: list[Waiter] = []
        self.answers: dict[bytes, tuple[Decision, float]] = {}

    @rule(n=st.integers(1, 3), gone=st.booleans())
    def open(self, n: int, gone: bool) -> None:
        for _ in range(n):
            waiter = Waiter()
            waiter.gone = gone
            message_id = len(self.opened).to_bytes(16, "big")
            now = self.clock.monotonic()
            self.opened.append(self.room.open(message_id, self.decider, now, self.clock.now(), waiter))
            self.waiters.append(waiter)

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), place=st.integers(0, 2), value=st.sampled_from([0.0, 0.7, math.nan, 1.5, math.inf]))
    def score(self, data: st.DataObject, place: int, value: float) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.opened), min_size=1, max_size=4))
        ids = b"".join(box.id for box in chosen)
        self.room.scored(place, scores(ids, value), self.clock.monotonic())

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), place=st.integers(0, 2))
    def lose(self, data: st.DataObject, place: int) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.opened), min_size=1, max_size=4))
        self.room.lost(place, b"".join(box.id for box in chosen), "disconnected", self.clock.monotonic())

    @rule(seconds=st.sampled_from([0.0005, 0.025, 0.06, 0.08, 2.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.looks.advance(self.clock.monotonic())

    @invariant()
    def ledger_balances(self) -> None:
        ledger = self.room.ledger
        assert ledger.balances()
        assert ledger.accepted == len(self.opened)
        assert ledger.open == sum(box.decision is None for box in self.opened)
        chosen = sum(sum(tally.chosen.values()) for tally in self.room.tallies)
        assert chosen == ledger.answered
        assert sum(ledger.reasons.values()) == ledger.defaults

    @invariant()
    def settled_once_and_for_good(self) -> None:
        for box, waiter in zip(self.opened, self.waiters, strict=True):
            assert waiter.results == (box.decision is not None and not waiter.gone)
            if box.decision is None:
                assert self.clock.monotonic() < box.deadline
                continue
            answer = (box.decision, box.value if isinstance(box.value, float) else box.value[0])
            assert self.answers.setdefault(box.id, answer) == answer
            assert box.decision.model != 2
            if box.decision.model >= 0:
                assert 0.0 <= answer[1] <= 1.0

    @invariant()
    def completed_once_with_every_model_accounted_for(self) -> None:
        assert len({box.id for box in self.complete}) == len(self.complete)
        for box in self.complete:
            assert box.decision is not None
            places = [one[0] for one in box.scores] + [one[0] for one in box.lost]
            assert sorted(places) == [0, 1, 2]
        assert set(self.room.boxes) == {box.id for box in self.opened if not box.complete}

    def teardown(self) -> None:
        self.clock.advance(0.08 + GRACE_S + 0.001)
        self.looks.advance(self.clock.monotonic())
        assert not self.room.boxes
        assert not self.looks.items
        assert len(self.complete) == len(self.opened)


MailroomMachine.TestCase.settings = settings(stateful_step_count=30, deadline=None)


class TestMailroom(MailroomMachine.TestCase):  # type: ignore[misc, name-defined]
    """Every request settles once and completes once, keeps its answer, and leaves no mailbox behind."""


def opened(policy: Any = None) -> tuple[Mailroom, Looks, Mailbox, list[Mailbox], ManualClock]:
    clock, complete = ManualClock(), []
    room, looks = room_of(complete, clock)
    decider = policy or Decider(POLICY, MODELS)
    box = room.open(bytes(16), decider, clock.monotonic(), clock.now(), Waiter())
    return room, looks, box, complete, clock


def test_late_scores_are_recorded_and_change_nothing() -> None:
    """A score after the deadline is in the event, marked late, and never becomes an answer."""
    room, looks, box, complete, clock = opened()
    clock.advance(0.081)
    looks.advance(clock.monotonic())
    room.scored(0, scores(box.id, 0.9), clock.monotonic())
    assert box.decision == Decision(reason="no score within the budget")
    assert box.value == (0.25,)
    assert [one[4] for one in box.scores] == [True]
    assert room.tallies[0].late == 1
    clock.advance(GRACE_S)
    looks.advance(clock.monotonic())
    assert complete == [box]
    assert [reason for _, reason in box.lost] == ["silent", "silent"]


def test_duplicates_and_strangers_are_counted_apart() -> None:
    """A model's second score and a score for an unknown request are counted and otherwise ignored."""
    room, _, box, _, clock = opened()
    for value in (0.4, 0.9):
        room.scored(0, scores(box.id, value), clock.monotonic())
    room.scored(0, scores(b"\xff" * 16, 0.1), clock.monotonic())
    assert (box.value, len(box.scores)) == (0.4, 1)
    assert (room.tallies[0].duplicate, room.tallies[0].unmatched, room.tallies[0].scored) == (1, 1, 1)


def test_a_request_keeps_its_version_of_the_answer() -> None:
    """The answer carries the one version whose score it is, whatever arrives from others."""
    room, _, box, _, clock = opened()
    room.scored(1, scores(box.id, 0.2, "w9"), clock.monotonic())
    room.scored(0, scores(box.id, 0.6, "v7"), clock.monotonic())
    assert (box.value, box.version) == (0.6, "v7")


@pytest.mark.parametrize(("value", "width"), [(math.nan, 1), (math.inf, 1), (1.01, 1), (0.5, 2)])
def test_unusable_scores_never_answer(value: float, width: int) -> None:
    """What is not finite, no probability or of another width cannot be an answer; the next tier is asked at once."""
    room, _, box, _, clock = opened()
    room.scored(1, scores(box.id, 0.2), clock.monotonic())
    room.scored(0, scores(box.id, value, width=width), clock.monotonic())
    assert box.decision == Decision(1, 2)
    assert room.tallies[0].unusable == 1


class Rogue:
    """A decider that does what a policy must not."""

    def __init__(self, does: Any) -> None:
        self.policy, self.version, self.default, self.first_look_ms = POLICY, "rogue", (0.25,), 10.0
        self.decide, self.tallies = does, ()


def raises(*_: object) -> Decision:
    raise RuntimeError("surprise")


@pytest.mark.parametrize("does", [raises, lambda *_: Decision(model=1, tier=1), lambda *_: Decision(model=99, tier=1)])
def test_a_policy_that_fails_gives_the_default(does: Any) -> None:
    """A policy that raises, or chooses a score that is not there, costs the request its score, not its answer."""
    room, _, box, _, clock = opened(Rogue(does))
    room.scored(0, scores(box.id, 0.4), clock.monotonic())
    assert box.decision == Decision(reason="the policy failed")
    assert box.value == (0.25,)


def test_a_policy_that_never_decides_is_cut_off() -> None:
    """A policy that only ever waits is cut off at the budget's end, or when nobody is left to wait for."""
    for lose_all in (False, True):
        room, looks, box, _, clock = opened(Rogue(lambda *_: Decision(look_ms=1e9)))
        if lose_all:
            for place in range(3):
                room.lost(place, box.id, "no_subscriber", clock.monotonic())
        else:
            clock.advance(0.0805)
            looks.advance(clock.monotonic())
        assert box.decision == Decision(reason="the policy failed")


def test_a_vanished_client_is_normal() -> None:
    """A request whose client has gone is settled like any other, and counted as abandoned."""
    room, _, box, complete, clock = opened()
    box.waiter.gone = True  # type: ignore[attr-defined]
    for place in range(3):
        room.scored(place, scores(box.id, 0.5), clock.monotonic())
    assert complete == [box]
    assert (room.ledger.answered, room.ledger.abandoned) == (1, 1)


def test_closing_settles_and_hands_on_everything() -> None:
    """A closing mailroom gives the default to what is open, and hands every mailbox on."""
    room, _, box, complete, _ = opened()
    room.close()
    assert box.decision == Decision(reason="the gateway is closing")
    assert complete == [box]
    assert room.ledger.balances()


def test_an_error_of_ours_is_in_the_ledger() -> None:
    """A request that we failed to publish is an explicit error, and is forgotten."""
    room, looks, box, complete, clock = opened()
    room.fail(box)
    clock.advance(1.0)
    looks.advance(clock.monotonic())
    assert (room.ledger.errors, room.ledger.open, len(room.boxes), complete) == (1, 0, 0, [])
    assert room.ledger.balances()


def test_kept_mailboxes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many mailboxes waiting for a silent model, settled ones are handed on at once, others once settled."""
    monkeypatch.setattr("rdv.serving.gateway.mailbox.MOST_KEPT", 5)
    clock, complete = ManualClock(), []
    room, looks = room_of(complete, clock)
    for at in range(10):
        room.open(at.to_bytes(16, "big"), Decider(POLICY, MODELS), clock.monotonic(), clock.now(), Waiter())
    first, last = list(room.boxes)[0], list(room.boxes)[-1]
    room.scored(0, scores(first, 0.5), clock.monotonic())
    assert len(room.boxes) == 9
    clock.advance(0.081)
    looks.advance(clock.monotonic())
    assert len(room.boxes) == 5
    assert last in room.boxes
    assert len(complete) == 5
