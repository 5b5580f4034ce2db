"""A mailbox per request: it collects scores until the policy settles it, exactly once, and is then kept for the late.

`Mailroom` holds the mailboxes of one goal. It does no I/O: the gateway tells it what the bus brought, and a wheel
tells it that time has passed. A mailbox is complete when every expected model has scored or cannot any more, or a
grace time after its deadline; then it is handed on (as an event) and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rdv.clock import Clock
from rdv.ids import MESSAGE_ID_BYTES
from rdv.serving.bus.port import Scores
from rdv.serving.gateway.digest import Digest
from rdv.serving.gateway.ledger import Ledger, ModelTally
from rdv.serving.gateway.policy import Decider, Decision
from rdv.serving.gateway.wheel import Tick, Wheel

GRACE_S = 1.0
MOST_KEPT = 20_000
"""Mailboxes beyond which no settled one waits for further scores: bounds memory when a model stands still."""

_ROUNDING_MS = 1e-6  # a look that is due must not find itself a rounding error too early
Value = float | tuple[float, ...]
FAILED = Decision(reason="the policy failed")
CLOSING = Decision(reason="the gateway is closing")


class Waiter(Protocol):
    """Who waits for a mailbox to settle; an asyncio future is one."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, result: None, /) -> None:
        """Wake whoever waits."""
        ...


class Mailbox:
    """One request. Times are CLOCK_MONOTONIC seconds, accepted_at epoch seconds; masks have a bit a model.

    present: usable scores; ended: models that have scored or cannot any more, or of whom nothing was
    expected from the start (`unexpected`). decision: None until settled.
    scores: (place, version, value, arrived, late) in order of arrival. lost: (place, reason).
    """

    __slots__ = (
        "accepted",
        "accepted_at",
        "complete",
        "deadline",
        "decider",
        "decision",
        "ended",
        "id",
        "look_ms",
        "lost",
        "present",
        "room",
        "scores",
        "settled",
        "tick",
        "unexpected",
        "value",
        "version",
        "waiter",
    )

    def __init__(
        self,
        room: Mailroom,
        message_id: bytes,
        decider: Decider,
        accepted: float,
        accepted_at: float,
        waiter: Waiter,
        unexpected: int = 0,
    ) -> None:
        self.room, self.id, self.decider, self.waiter = room, message_id, decider, waiter
        self.accepted, self.accepted_at = accepted, accepted_at
        self.deadline = accepted + decider.policy.budget_ms * 1e-3
        self.look_ms = decider.first_look_ms
        self.present = 0
        self.ended = self.unexpected = unexpected
        self.decision: Decision | None = None
        self.complete = False
        self.settled = 0.0
        self.tick: Tick[Mailbox]
        self.value: Value = decider.default
        self.version = ""
        self.scores: list[tuple[int, str, Value, float, bool]] = []
        self.lost: list[tuple[int, str]] = []

    @property
    def elapsed_ms(self) -> float:
        """From acceptance to the answer."""
        return (self.settled - self.accepted) * 1e3


class Mailroom:
    """The mailboxes of one goal. `models`: a bit each, in this order; all of them are expected to score everything,

    but those of the mask `unexpected`, which a mailbox keeps as it was when it was opened. pins: by place, the only
    version whose scores may be an answer.
    probes: by message id, who is told (the place of) each model that scores it; they are in no ledger. answered_at:
    when a model's score last became an answer, CLOCK_MONOTONIC seconds.
    """

    def __init__(
        self,
        models: Sequence[str],
        usable: Callable[[Value], bool],
        on_complete: Callable[[Mailbox], None],
        wheel: Wheel[Mailbox],
        clock: Clock,
        width: int = 1,
    ) -> None:
        """usable: whether a score may be an answer. width: values a score has."""
        self.models = tuple(models)
        self.ledger = Ledger()
        self.latency = Digest()
        self.tallies = [ModelTally() for _ in self.models]
        self.boxes: dict[bytes, Mailbox] = {}
        self.probes: dict[bytes, Callable[[int], None]] = {}
        self.answered_at = -1e9
        self.unexpected = 0
        self.pins: dict[int, str] = {}
        self._everyone = (1 << len(self.models)) - 1
        self._usable, self._on_complete, self._wheel, self._clock = usable, on_complete, wheel, clock
        self._width = width

    def open(self, message_id: bytes, decider: Decider, accepted: float, accepted_at: float, waiter: Waiter) -> Mailbox:
        """A new mailbox, counted as accepted. Publish its request next, then `look` at it once."""
        box = Mailbox(self, message_id, decider, accepted, accepted_at, waiter, self.unexpected)
        self.boxes[message_id] = box
        ledger = self.ledger
        ledger.accepted += 1
        ledger.open += 1
        box.tick = self._wheel.add(box, accepted + box.look_ms * 1e-3)
        return box

    def scored(self, place: int, scores: Scores, now: float) -> None:
        """Take in one replica's answer to one frame. place: the model's."""
        tally = self.tallies[place]
        tally.evaluation.add(scores.eval_s)
        tally.queue.add(scores.queue_s)
        boxes, ids, bit, width = self.boxes, scores.ids, 1 << place, scores.width
        fits = width == self._width and self.pins.get(place, scores.version) == scores.version
        usable = self._usable if fits else _never
        values = memoryview(scores.values).cast("d").tolist()
        for at in range(len(ids) // MESSAGE_ID_BYTES):
            message_id = ids[at * MESSAGE_ID_BYTES : (at + 1) * MESSAGE_ID_BYTES]
            box = boxes.get(message_id)
            if box is None:
                self._unknown(message_id, place)
            elif box.ended & bit:
                if box.unexpected & bit:
                    tally.unmatched += 1
                else:
                    tally.duplicate += 1
            else:
                value = values[at] if width == 1 else tuple(values[at * width : (at + 1) * width])
                self._put(box, place, scores.version, value, now, usable(value))

    def _put(self, box: Mailbox, place: int, version: str, value: Value, now: float, usable: bool) -> None:
        tally, bit = self.tallies[place], 1 << place
        late = now > box.deadline
        box.ended |= bit
        box.scores.append((place, version, value, now, late))
        tally.scored += 1
        tally.late += late
        tally.latency.add(now - box.accepted)
        if usable:
            box.present |= bit
        else:
            tally.unusable += 1
        if box.decision is None:
            self.look(box, now)
        if box.ended == self._everyone or (len(self.boxes) > MOST_KEPT and box.decision is not None):
            self._finish(box)

    def _unknown(self, message_id: bytes, place: int) -> None:
        probe = self.probes.get(message_id)
        if probe is not None:
            probe(place)
        else:
            self.tallies[place].unmatched += 1

    def lost(self, place: int, ids: bytes, reason: str, now: float) -> None:
        """Note that a model will not score these requests."""
        bit = 1 << place
        for at in range(0, len(ids), MESSAGE_ID_BYTES):
            box = self.boxes.get(ids[at : at + MESSAGE_ID_BYTES])
            if box is None or box.ended & bit:
                continue
            box.ended |= bit
            box.lost.append((place, reason))
            self.tallies[place].lost[reason] += 1
            self.look(box, now)
            if box.ended == self._everyone:
                self._finish(box)

    def look(self, box: Mailbox, now: float) -> None:
        """Ask the policy about an open mailbox: it settles now, or is looked at again when the policy says so."""
        if box.decision is not None:
            return
        decider = box.decider
        elapsed_ms = (now - box.accepted) * 1e3 + _ROUNDING_MS
        try:
            decision = decider.decide(box.present, self._everyone & ~box.ended, elapsed_ms, box.id)
            if decision.model >= 0 and not box.present >> decision.model & 1:
                decision = FAILED
        except Exception:  # whatever a policy does, the request is answered
            decision = FAILED
        if decision.model >= 0 or decision.reason:
            self._settle(box, decision, now)
        elif elapsed_ms >= decider.policy.budget_ms or box.ended == self._everyone:
            self._settle(box, FAILED, now)
        elif decision.look_ms != box.look_ms:
            box.look_ms = min(decision.look_ms, decider.policy.budget_ms)
            box.tick.leave()
            box.tick = self._wheel.add(box, box.accepted + box.look_ms * 1e-3)

    def due(self, box: Mailbox, now: float) -> None:
        """The wheel has come to a mailbox."""
        if box.complete:
            return
        if box.decision is None:
            box.look_ms = -1.0  # this look is used up: whatever the policy says next is put on the wheel
            self.look(box, now)
            if box.decision is None:
                return
        over = box.deadline + GRACE_S
        if now >= over or len(self.boxes) > MOST_KEPT:
            self._finish(box)
        else:
            box.tick = self._wheel.add(box, over)

    def _settle(self, box: Mailbox, decision: Decision, now: float) -> None:
        ledger = self.ledger
        box.decision, box.settled = decision, now
        ledger.open -= 1
        if decision.model >= 0:
            ledger.answered += 1
            self.answered_at = now
            self.tallies[decision.model].chosen[decision.tier] += 1
            for place, version, value, _, _ in box.scores:
                if place == decision.model:
                    box.value, box.version = value, version
        else:
            ledger.defaults += 1
            ledger.reasons[decision.reason] += 1
        self.latency.add(now - box.accepted)
        for tally in box.decider.tallies:
            tally.settled(decision.model, now - box.accepted)
        if box.waiter.done():
            ledger.abandoned += 1
        else:
            box.waiter.set_result(None)

    def _finish(self, box: Mailbox) -> None:
        """Hand a settled mailbox on and forget it; models that have said nothing are missing."""
        box.complete = True
        box.tick.leave()
        del self.boxes[box.id]
        silent = self._everyone & ~box.ended
        for place in range(len(self.models)) if silent else ():
            if silent >> place & 1:
                self.tallies[place].missing += 1
                box.lost.append((place, "silent"))
        self._on_complete(box)

    def fail(self, box: Mailbox) -> None:
        """End a mailbox that an error of our own keeps from being scored; the client is told so."""
        if box.decision is None:
            self.ledger.open -= 1
            self.ledger.errors += 1
        self.boxes.pop(box.id, None)
        box.tick.leave()
        box.complete = True

    def close(self) -> None:
        """Settle what is open with the default, and hand everything on."""
        now = self._clock.monotonic()
        for box in list(self.boxes.values()):
            if box.decision is None:
                self._settle(box, CLOSING, now)
            self._finish(box)


def _never(value: Value) -> bool:
    return False
