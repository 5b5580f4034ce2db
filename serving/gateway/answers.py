"""A settled mailbox as what the client is told, and as the event that the gateway publishes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

import msgspec

from rdv.config import Answer, Goal
from rdv.records import CANARY_SUFFIX
from rdv.serving.gateway.mailbox import Mailbox, Value
from rdv.serving.gateway.policy import Decision
from rdv.serving.http.types import Reply

_LARGEST = sys.float_info.max
_MOST_HEADS = 4096


def usable(answer: Answer, width: int) -> Callable[[Value], bool]:
    """Whether a score may be an answer of this kind: finite, a probability within 0..1, one value a label."""
    if answer == "labels":
        return lambda value: isinstance(value, tuple) and len(value) == width and all(map(math.isfinite, value))
    low, high = (0.0, 1.0) if answer == "probability" else (-_LARGEST, _LARGEST)
    return lambda value: isinstance(value, float) and low <= value <= high


class Answers:
    """How a goal answers; `models`: the names by place in the mailbox's masks."""

    def __init__(self, goal: str, gateway: str, config: Goal, models: Sequence[str]) -> None:
        self._goal, self._gateway = goal, gateway
        self._labels = config.labels if config.answer == "labels" else ()
        self._quoted = [msgspec.json.encode(label).decode() for label in self._labels]
        self._models = tuple(models)
        self._shown = tuple(name.removesuffix(CANARY_SUFFIX) for name in models)
        self._heads: dict[tuple[int, int, str, str], str] = {}

    def reply(self, box: Mailbox) -> Reply:
        """The answer to a settled mailbox's request, as JSON."""
        decision = box.decision
        assert decision is not None
        value = box.value
        shown = self._labelled(value) if self._labels else repr(value if isinstance(value, int | float) else value[0])
        head = self._heads.get((decision.model, decision.tier, decision.reason, box.version))
        if head is None:
            head = self._head(decision, box.version)
        elapsed_ms = (box.settled - box.accepted) * 1e3
        text = f'{{"request_id":"{box.id.hex()}","answer":{shown}{head}{elapsed_ms:.3f}}}'
        return Reply(200, text.encode())

    def _labelled(self, value: Value) -> str:
        values = value if isinstance(value, tuple) else (value,)
        best = self._quoted[values.index(max(values))]
        scores = ",".join([f"{label}:{one!r}" for label, one in zip(self._quoted, values, strict=True)])
        return f'{{"label":{best},"scores":{{{scores}}}}}'

    def _head(self, decision: Decision, version: str) -> str:
        """What lies between the answer and the elapsed time; the same for all answers of a version and tier."""
        model, source, degraded = self.origin(decision)
        fields = {
            "model": model or None,
            "version": version or None,
            "source": source,
            "reason": decision.reason,
            "degraded": degraded,
            "canary": self.is_canary(decision),
        }
        head = "," + msgspec.json.encode(fields).decode()[1:-1] + ',"elapsed_ms":'
        if len(self._heads) < _MOST_HEADS:
            self._heads[decision.model, decision.tier, decision.reason, version] = head
        return head

    def origin(self, decision: Decision) -> tuple[str, str, bool]:
        """The chosen model ("" for the default), the source as it is told, and whether it is degraded."""
        if decision.model < 0:
            return "", "default", True
        return self._shown[decision.model], f"tier {decision.tier}", decision.tier > 1

    def is_canary(self, decision: Decision) -> bool:
        """Whether a rollout's worker made the answer."""
        return decision.model >= 0 and self._models[decision.model] != self._shown[decision.model]

    def event(self, box: Mailbox) -> bytes:
        """The event of a complete mailbox, as one msgpack document (see `rdv.serving.recording.events.Event`).

        Built as plain tuples, which encode to the same bytes as the records in a third of the time.
        """
        decision = box.decision
        assert decision is not None
        model, source, degraded = self.origin(decision)
        accepted = box.accepted
        models = self._models
        return _encode(
            (
                box.id.hex(),
                self._goal,
                self._gateway,
                box.accepted_at,
                box.decider.version,
                box.value if isinstance(box.value, tuple) else (box.value,),
                model,
                box.version,
                source,
                decision.reason,
                degraded,
                (box.settled - accepted) * 1e3,
                [
                    (models[place], version, value if type(value) is tuple else (value,), (now - accepted) * 1e3, late)
                    for place, version, value, now, late in box.scores
                ],
                [(models[place], reason) for place, reason in box.lost],
                box.decider.propensity,
                self.is_canary(decision),
                box.decider.arms,
            )
        )


_encode = msgspec.msgpack.Encoder().encode
