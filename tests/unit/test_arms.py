"""Arms of rollouts: who answers whom, whatever arrives when; and mailboxes that expect canaries or do not."""

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mailrooms import Looks, Waiter

from rdv.clock import ManualClock
from rdv.config import Tier
from rdv.inputs import RowSchema
from rdv.records import Rollout, RolloutState, Verdict
from rdv.serving.bus.memory import MemoryHub
from rdv.serving.bus.port import Events, Scores
from rdv.serving.gateway.answers import usable
from rdv.serving.gateway.arms import ArmDecider, Arms, Trial, patience_ms, subject_text
from rdv.serving.gateway.mailbox import GRACE_S, Mailbox, Mailroom
from rdv.serving.gateway.policy import Decider, Decision, Policy
from rdv.serving.gateway.trials import Trials

MODELS = ("champion", "runner_up", "third")
NAMES = (*MODELS, *(f"{name}@canary" for name in MODELS))
N = len(MODELS)
TIERS = (Tier(25.0, ("champion",)), Tier(60.0, ("champion", "runner_up")))
POLICY = Policy(budget_ms=80.0, default=0.25, tiers=TIERS)
SEED = bytes(16)
masks = st.integers(0, (1 << 2 * N) - 1)


def row(model: str = "champion", share: float = 0.5, **changes: Any) -> Rollout:
    fields: dict[str, Any] = {"state": RolloutState.CANARY, "number": 1, "version": "v2", "serial": 2, **changes}
    return Rollout(model=model, instead_of="v1", share=share, **fields)


def trial(model: str = "champion", share: float = 0.5, **changes: Any) -> Trial:
    own = MODELS.index(model)
    return Trial(row(model, share, **changes), own, own + N)


def decider(assigned: Sequence[str], policy: Policy = POLICY) -> ArmDecider:
    """The decider of a request that is assigned to these models' canaries, all of which have rollouts."""
    return ArmDecider(Decider(policy, MODELS), [trial(name) for name in MODELS], [name in assigned for name in MODELS])


@given(masks, masks, st.floats(0, 100), st.sets(st.sampled_from(MODELS)))
def test_who_is_not_assigned_never_gets_a_canary(present: int, possible: int, now: float, assigned: set[str]) -> None:
    """A canary answers only who is assigned to it, only with a score that is there; the tier is the model's own."""
    decision = decider(sorted(assigned)).decide(present, possible & ~present, now, SEED)
    if decision.model >= 0:
        assert present >> decision.model & 1
        assert decision.model < N or MODELS[decision.model - N] in assigned
        assert MODELS[decision.model % N] in POLICY.chosen()


@given(masks, masks, st.floats(0, 100))
def test_without_an_assignment_the_policy_decides_as_ever(present: int, possible: int, now: float) -> None:
    """For everybody else a rollout changes no answer."""
    own = (1 << N) - 1
    without = Decider(POLICY, MODELS).decide(present & own, possible & ~present & own, now, SEED)
    assert decider([]).decide(present, possible & ~present, now, SEED) == without


@given(masks, masks, st.floats(0, 100))
def test_an_assigned_request_waits_only_while_its_canary_may_come(present: int, possible: int, now: float) -> None:
    """Where others have an answer it waits, if for the canary, until the patience ends, and never has the default."""
    possible &= ~present
    with_canary = decider(["champion"]).decide(present, possible, now, SEED)
    without = Decider(POLICY, MODELS).decide(present, possible, now, SEED)
    if without.model >= 0 and with_canary.model < 0:
        assert not with_canary.reason
        assert possible & 1 << N
        assert now < patience_ms(POLICY, "champion") == 25.0
        assert now < with_canary.look_ms <= 25.0
    if with_canary.model < 0 and not with_canary.reason:
        assert with_canary.look_ms > now


@pytest.mark.parametrize(
    ("present", "possible", "now", "expected"),
    [
        (0b001_001, 0, 1.0, Decision(3, 1)),  # both are there: the canary's
        (0b000_001, 0b001_000, 1.0, Decision(look_ms=25.0)),  # the canary may still come
        (0b000_001, 0b001_000, 25.0, Decision(0, 2)),  # but is not waited for any longer
        (0b000_001, 0, 1.0, Decision(0, 1)),  # it is lost: the model's own at once
        (0b001_000, 0b000_001, 1.0, Decision(3, 1)),  # it is there first
        (0b000_010, 0b001_000, 30.0, Decision(1, 2)),  # another model's in its tier, as without a rollout
    ],
)
def test_an_assigned_request_prefers_its_canary(present: int, possible: int, now: float, expected: Decision) -> None:
    """The canary stands for its model, and the model for its canary once that is lost."""
    assert decider(["champion"]).decide(present, possible, now, SEED) == expected


def test_patience_is_a_part_of_the_budget() -> None:
    """A policy without tiers has one that lasts as long as the budget; the canary is waited for half of it."""
    assert patience_ms(Policy(80.0, 0.5, tiers=(Tier(80.0, MODELS),)), "third") == 40.0
    assert patience_ms(POLICY, "third") == 0.0


def test_the_share_converges_and_subjects_stay_where_they_are() -> None:
    """Over many subjects the assigned are the share; a subject is always assigned alike; without one, each request."""
    trials = [trial(share=0.2), trial("runner_up", 0.5)]
    arms = Arms(Decider(POLICY, MODELS), trials, lambda request: request)
    found = [arms.decider(f"c{at}", SEED) for at in range(20_000)]
    shares = [sum(one.arms[at].assigned for one in found) / len(found) for at in (0, 1)]
    assert shares == pytest.approx([0.2, 0.5], abs=0.02)
    assert all(arms.decider("c7", bytes([at]) * 16) is found[7] for at in range(9))
    one = next(one for one in found if [arm.assigned for arm in one.arms] == [True, False])
    assert one.propensity == pytest.approx(0.2 * 0.5)
    for subject in (None, lambda request: None):
        nobody = Arms(Decider(POLICY, MODELS), trials, subject)
        told = [nobody.decider("same", at.to_bytes(16, "big")).arms[0].assigned for at in range(5_000)]
        assert sum(told) / len(told) == pytest.approx(0.2, abs=0.03)


@given(st.integers(-(2**53), 2**53))
def test_a_subject_is_the_same_however_its_number_is_written(number: int) -> None:
    """A request's numbers are doubles: 42 and 42.0 are one subject."""
    assert subject_text(float(number)) == subject_text(number) == str(number)
    assert (subject_text("42"), subject_text(True), subject_text(0.5)) == ("42", "true", "0.5")


def scores(box: Mailbox, version: str, value: float = 0.5) -> Scores:
    return Scores("gw", version, box.id, struct.pack("<d", value), 1)


class RolloutRoom(RuleBasedStateMachine):
    """Rollouts come and go while requests are opened, scored, lost and forgotten, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.looks = ManualClock(), Looks()
        self.complete: list[Mailbox] = []
        wheel: Any = self.looks
        self.room = Mailroom(NAMES, usable("probability", 1), self.complete.append, wheel, self.clock)
        self.hub = MemoryHub("gw", lambda *_: None)
        self.hub.expect("g", RowSchema(), MODELS)
        topics = dict.fromkeys(MODELS, "g")
        base = Decider(POLICY, MODELS)
        self.trials = Trials(topics, {"g": RowSchema()}, self.room, self.hub, base, lambda request: request)
        self.base, self.opened, self.waiters, self.number = base, [], [], 0
        self.opened: list[tuple[Mailbox, int]] = []

    @rule(
        model=st.sampled_from(MODELS), share=st.sampled_from([0.0, 0.5, 1.0]), state=st.sampled_from(RolloutState),
        version=st.sampled_from(["v2", "v3"]), good=st.booleans(), same=st.booleans(),
    )  # fmt: skip
    def a_row_says(self, model: str, share: float, state: RolloutState, version: str, good: bool, same: bool) -> None:
        self.number += not same
        verdict = Verdict.PROMOTE if good else Verdict.ROLL_BACK
        told = row(model, share, state=state, version=version, number=max(1, self.number), verdict=verdict)
        self.trials.take(model, told)

    @rule(model=st.sampled_from(MODELS))
    def there_is_no_row(self, model: str) -> None:
        self.trials.take(model, None)

    @rule(subject=st.integers(0, 20))
    def a_request(self, subject: int) -> None:
        arms, message_id = self.trials.arms, len(self.opened).to_bytes(16, "big")
        chosen = self.base if arms is None else arms.decider(f"c{subject}", message_id)
        waiter = Waiter()
        box = self.room.open(message_id, chosen, self.clock.monotonic(), self.clock.now(), waiter)
        self.room.look(box, self.clock.monotonic())
        self.opened.append((box, self.room.unexpected))
        self.waiters.append(waiter)

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), place=st.integers(0, 2 * N - 1), version=st.sampled_from(["v1", "v2", "v3"]))
    def a_score(self, data: st.DataObject, place: int, version: str) -> None:
        box, _ = data.draw(st.sampled_from(self.opened[-4:]))
        self.room.scored(place, scores(box, version), self.clock.monotonic())

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), place=st.integers(0, 2 * N - 1))
    def a_loss(self, data: st.DataObject, place: int) -> None:
        box, _ = data.draw(st.sampled_from(self.opened[-4:]))
        self.room.lost(place, box.id, "expired", self.clock.monotonic())

    @rule(ms=st.integers(1, 90))
    def time_passes(self, ms: int) -> None:
        self.clock.advance(ms * 1e-3)
        self.looks.advance(self.clock.monotonic())

    @invariant()
    def every_answer_is_one_that_may_be(self) -> None:
        for (box, unexpected), waiter in zip(self.opened, self.waiters, strict=True):
            assert waiter.results == (box.decision is not None)
            if box.decision is not None and box.decision.model >= N:
                assert not unexpected >> box.decision.model & 1
                model = NAMES[box.decision.model].removesuffix("@canary")
                arm = {arm.model: arm for arm in box.decider.arms}[model]
                assert arm.assigned
        assert self.room.ledger.balances()

    @invariant()
    def every_expected_score_is_in_the_books_once(self) -> None:
        expected = [0] * (2 * N)
        for box, unexpected in self.opened:
            if box.complete:
                for place in range(2 * N):
                    expected[place] += not unexpected >> place & 1
        still = [0] * (2 * N)
        for box in self.room.boxes.values():
            for place in range(2 * N):
                still[place] += bool((box.ended & ~box.unexpected) >> place & 1)
        for place, tally in enumerate(self.room.tallies):
            ended = tally.scored + sum(tally.lost.values()) + tally.missing
            assert ended == expected[place] + still[place], NAMES[place]

    def teardown(self) -> None:
        self.clock.advance(GRACE_S + 0.2)
        self.looks.advance(self.clock.monotonic())
        assert len(self.complete) == len(self.opened)
        assert not self.room.boxes
        arms = [tally for known in self.trials.known.values() for tally in known.tallies]
        assert sum(tally.latency.count for tally in arms) <= N * len(self.opened)


TestRolloutRoom = RolloutRoom.TestCase
TestRolloutRoom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_canary_of_another_version_answers_nobody() -> None:
    """What is left of the rollout before scores, and is not taken for the one that is on."""
    machine = RolloutRoom()
    machine.trials.take("champion", row(share=1.0, version="v2"))
    machine.a_request(1)
    box, _ = machine.opened[0]
    machine.room.scored(3, scores(box, "old"), 0.0)
    assert box.decision is None
    machine.room.scored(0, scores(box, "v1"), 0.0)
    assert box.decision == Decision(0, 1)
    assert machine.room.tallies[3].unusable == 1


def test_a_hub_lets_go_of_a_canary_that_nobody_expects_any_more() -> None:
    """Rows count for a canary while its rollout is on or it is subscribed; its counters stay, and go on."""
    hub = MemoryHub("gw", lambda *_: None)
    hub.expect("g", RowSchema(), ["champion"])
    batch = Events("g", "gw", bytes(16), [b"\xc0"])
    for expected in (1, 2):
        hub.expect("g", RowSchema(), ["c"])
        hub.publish(batch)
        assert hub.traffic()["g", "c"].published == expected
        hub.unexpect("g", "c")
        hub.publish(batch)
        assert hub.traffic()["g", "c"].published == expected
