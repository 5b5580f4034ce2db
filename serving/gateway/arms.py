"""Who answers a request while rollouts are on: which subjects belong to a canary, and what the policy makes of that.

A subject of a canary's share is answered by the canary wherever the policy would answer with the model, and by the
model's own worker at once when the canary's score is lost, or is not there when its patience ends. Everybody else is
never answered by a canary. A request keeps the arms that it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rdv.experiments.assignment import Assignment
from rdv.records import Rollout
from rdv.serving.gateway.digest import Digest
from rdv.serving.gateway.policy import ArmRecord, Decider, Decision, Policy

PATIENCE = 0.5
"""The part of the budget for which a canary's score is waited for although the model's own is there."""


class Tally:
    """What became of the requests of one arm: answered by the canary, the model's own workers, others, the default.

    latency: from acceptance to the answer.
    """

    __slots__ = ("_canary", "_own", "by_canary", "by_others", "by_own", "defaults", "latency")

    def __init__(self, own: int, canary: int) -> None:
        self._own, self._canary = own, canary
        self.by_canary = self.by_own = self.by_others = self.defaults = 0
        self.latency = Digest()

    def settled(self, place: int, elapsed_s: float) -> None:
        """Count an answer; place: of the model whose score it is, negative for the default."""
        self.latency.add(elapsed_s)
        if place == self._canary:
            self.by_canary += 1
        elif place == self._own:
            self.by_own += 1
        elif place >= 0:
            self.by_others += 1
        else:
            self.defaults += 1

    def summary(self) -> dict[str, object]:
        """The counters, for `rdv status`."""
        return {
            "answers": self.by_canary + self.by_own + self.by_others + self.defaults,
            "by_canary": self.by_canary,
            "by_own": self.by_own,
            "by_others": self.by_others,
            "defaults": self.defaults,
            "latency": self.latency.summary(),
        }


class Trial:
    """One rollout at one gateway. own, canary: places in the mailroom; tallies: of all others' and the share's arm."""

    __slots__ = ("assignment", "canary", "own", "rollout", "share", "tallies")

    def __init__(self, rollout: Rollout, own: int, canary: int, before: Trial | None = None) -> None:
        """before: the same model's until now; of the same rollout, its counters go on."""
        self.rollout, self.own, self.canary = rollout, own, canary
        self.assignment = Assignment(rollout.salt)
        self.share = rollout.share if rollout.answers else 0.0
        goes_on = before is not None and before.rollout.number == rollout.number
        new = (Tally(own, canary), Tally(own, canary))
        self.tallies: tuple[Tally, Tally] = before.tallies if before and goes_on else new


class Arms:
    """The rollouts of a goal that are on, and who decides about a request; never changed, only replaced.

    subject: what a request is about; None: the goal does not say, so that each request is assigned by its own id.
    """

    def __init__(self, base: Decider, trials: Sequence[Trial], subject: Callable[[Any], Any] | None) -> None:
        self._base, self._trials, self._subject = base, tuple(trials), subject
        self._deciders: dict[int, Decider] = {}

    def decider(self, request: Any, message_id: bytes) -> Decider:
        """Who decides about a request."""
        subject = None if self._subject is None else self._subject(request)
        text = message_id.hex() if subject is None else subject_text(subject)
        assigned = 0
        for at, trial in enumerate(self._trials):
            if trial.assignment.place(text) < trial.share:
                assigned |= 1 << at
        found = self._deciders.get(assigned)
        if found is None:
            which = [bool(assigned >> at & 1) for at in range(len(self._trials))]
            found = self._deciders[assigned] = ArmDecider(self._base, self._trials, which)
        return found


class ArmDecider(Decider):
    """A policy for the requests that are assigned in one way."""

    __slots__ = ("_canaries", "_places")

    def __init__(self, base: Decider, trials: Sequence[Trial], assigned: Sequence[bool]) -> None:
        super().__init__(base.policy, base.models)
        pairs = list(zip(trials, assigned, strict=True))
        self.arms = tuple(
            ArmRecord(one.rollout.model, one.rollout.version, one.share, is_in) for one, is_in in pairs
        )
        self.tallies = [one.tallies[is_in] for one, is_in in pairs]
        for one, is_in in pairs:
            self.propensity *= one.share if is_in else 1.0 - one.share
        tried = [(one, patience_ms(base.policy, base.models[one.own])) for one, is_in in pairs if is_in]
        self._canaries = [(1 << one.own, 1 << one.canary, until_ms) for one, until_ms in tried if until_ms]
        self._places = {one.own: one.canary for one, until_ms in tried if until_ms}
        if self._canaries:
            self.first_look_ms = min(self.first_look_ms, *(until_ms for _, _, until_ms in self._canaries))
            self.decide = self._by_arms

    def _by_arms(self, present: int, possible: int, elapsed_ms: float, seed: bytes) -> Decision:
        """The policy's decision, a canary standing for its model."""
        there, look_ms = present, self.policy.budget_ms
        for own, canary, until_ms in self._canaries:
            if there & canary:
                present |= own
            elif possible & canary:
                possible |= own
                if elapsed_ms < until_ms:
                    present &= ~own
                    look_ms = min(look_ms, until_ms)
        decision = self._by_tiers(present, possible, elapsed_ms, seed)
        if decision.model >= 0:
            place = self._places.get(decision.model, -1)
            return Decision(place, decision.tier) if place >= 0 and there >> place & 1 else decision
        if decision.reason or decision.look_ms <= look_ms:
            return decision
        return Decision(look_ms=look_ms)


def patience_ms(policy: Policy, model: str) -> float:
    """For how long after acceptance a canary of a model is waited for when the model's own score is there; pure.

    Until the first tier that names the model ends, at most for a part of the budget; 0 when no tier does.
    """
    ends = [tier.until_ms for tier in policy.schedule() if model in tier.models]
    return min(ends[0], policy.budget_ms * PATIENCE) if ends else 0.0


def subject_text(subject: object) -> str:
    """A subject as text, the same for the same JSON value."""
    if isinstance(subject, str):
        return subject
    if isinstance(subject, bool):
        return "true" if subject else "false"
    return str(int(subject)) if isinstance(subject, float) and subject.is_integer() else repr(subject)
