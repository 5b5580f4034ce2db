"""What a gateway tells about each request once it is complete: one record, on the topic `<goal>/events`."""

from __future__ import annotations

import msgspec

from rdv.errors import InputError

RECORDER = "recorder"
DECOY = "decoy"


class ScoreRecord(msgspec.Struct, frozen=True, array_like=True):
    """One model's score. values: one number, or one a label; NaN where the model had none.

    latency_ms: from acceptance to the score's arrival. late: it came after the request's deadline.
    """

    model: str
    version: str
    values: tuple[float, ...]
    latency_ms: float
    late: bool = False


class Missing(msgspec.Struct, frozen=True, array_like=True):
    """One model without a score, and why: `no_subscriber`, `queue_full`, `expired`, ... or `silent`."""

    model: str
    reason: str


class Arm(msgspec.Struct, frozen=True, array_like=True):
    """How a request was assigned in a rollout of a version. share: of subjects; assigned: to the canary."""

    model: str
    version: str
    share: float
    assigned: bool


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One answered request.

    id: 32 hexadecimal digits, the decoy's key. accepted_at: epoch seconds. policy: its version. answer: the values
    the client was given (model and version empty: the default, and `reason` says why). source: `tier 1` ... or
    `default`. degraded: anything but the first tier answered. elapsed_ms: from acceptance to the answer. canary: a
    rollout's worker answered; its scores are those of `MODEL@canary`. arms: how the request was assigned in each
    rollout that was on; propensity: the probability of just that.
    """

    id: str
    goal: str
    gateway: str
    accepted_at: float
    policy: str
    answer: tuple[float, ...]
    model: str
    version: str
    source: str
    reason: str
    degraded: bool
    elapsed_ms: float
    scores: tuple[ScoreRecord, ...] = ()
    missing: tuple[Missing, ...] = ()
    propensity: float = 1.0
    canary: bool = False
    arms: tuple[Arm, ...] = ()


def events_topic(goal: str) -> str:
    """The bus topic on which a goal's events are published."""
    return f"{goal}/events"


_decoder = msgspec.msgpack.Decoder(Event)


def decode_event(record: bytes) -> Event:
    """The event in one record of an events batch; InputError when it is none."""
    try:
        return _decoder.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"not an event record: {error}") from None
