"""What became of every request of a goal: the counters that have to add up, always."""

from __future__ import annotations

from collections import Counter

import msgspec

from rdv.serving.gateway.digest import Digest


class Ledger(msgspec.Struct):
    """Requests of one goal since the gateway started. accepted = answered + defaults + errors + open, at every moment.

    accepted: a mailbox was opened. answered: settled by the policy with a model's score. defaults: by the default.
    errors: accepted, then ended with an error told to the client. open: not settled yet. abandoned: of those settled,
    the client had gone. refused: never accepted, by HTTP status.
    """

    accepted: int = 0
    answered: int = 0
    defaults: int = 0
    errors: int = 0
    open: int = 0
    abandoned: int = 0
    refused: Counter[int] = msgspec.field(default_factory=Counter)
    reasons: Counter[str] = msgspec.field(default_factory=Counter)

    def balances(self) -> bool:
        """Whether every accepted request is accounted for, once."""
        return self.accepted == self.answered + self.defaults + self.errors + self.open


class ModelTally:
    """What one model did for a goal's requests.

    scored: requests it scored, `late` of them after the request's deadline. unusable:
    scores that were no number. lost: it could not score (absent, full, expired ...). missing: nothing came within the
    grace time. chosen: answers made of its score, by tier. duplicate: scored again. unmatched: came after everything.
    latency: from acceptance to its score's arrival; evaluation and queue: as its worker measured, a frame each.
    """

    __slots__ = (
        "chosen",
        "duplicate",
        "evaluation",
        "late",
        "latency",
        "lost",
        "missing",
        "queue",
        "scored",
        "unmatched",
        "unusable",
    )

    def __init__(self) -> None:
        self.scored = self.late = self.unusable = 0
        self.missing = self.duplicate = self.unmatched = 0
        self.lost: Counter[str] = Counter()
        self.chosen: Counter[int] = Counter()
        self.latency, self.evaluation, self.queue = Digest(), Digest(), Digest()

    def summary(self, settled: int) -> dict[str, object]:
        """The counters and their shares, for `rdv status`. settled: the goal's requests that were answered at all."""
        chosen, lost = sum(self.chosen.values()), sum(self.lost.values())
        ended = self.scored + lost + self.missing
        return {
            "scored": self.scored,
            "late": self.late,
            "unusable": self.unusable,
            "lost": dict(self.lost),
            "missing": self.missing,
            "duplicate": self.duplicate,
            "unmatched": self.unmatched,
            "chosen": chosen,
            "chosen_by_tier": {str(tier): times for tier, times in sorted(self.chosen.items())},
            "choice_share": chosen / settled if settled else 0.0,
            "late_share": self.late / self.scored if self.scored else 0.0,
            "no_answer_share": (lost + self.missing) / ended if ended else 0.0,
            "latency": self.latency.summary(),
            "evaluation": self.evaluation.summary(),
            "queue": self.queue.summary(),
        }
