"""What a load has measured, out of what became of each request. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from rdv.serving.load.budget import Entry, Verdict, judge
from rdv.serving.load.client import Sent

ANSWERED, DEGRADED, DEFAULT = "model", "degraded", "default"
"""Fates of an answered request: of the first tier, of a later one, the default. Any other fate is a kind of error."""
NO_ANSWER, BROKEN, NOT_SENT = "no answer in time", "connection broken", "no connection free"
SHOWN = (0.5, 0.9, 0.99, 0.999, 1.0)
KINDS = 50
LATE_MS, LATE_SHARE = 100.0, 0.05
"""A client that is later than that for more than this share of the requests sends bursts, not a steady rate."""
_WAITED_MS = 1.0
_SLICES = 60
_NINES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999)


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were due within a piece of the run. from_s: since the first one; latencies in ms."""

    from_s: float
    sent: int
    errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A run. Latencies count from a request's arrival time and are infinite without an answer.

    answered: by a model, of the first tier or not (`degraded`). errors: by kind. waited: requests that found no free
    connection and waited for one. late_share: of requests that the client itself saw more than LATE_MS after they were
    due. curve: (share of requests, ms) pairs.
    """

    rate: float
    seconds: float
    sent: int
    answered: int
    degraded: int
    defaults: int
    errors: dict[str, int]
    latency_ms: dict[str, float]
    waited: int
    late_p99_ms: float
    late_max_ms: float
    late_share: float
    curve: list[tuple[float, float]]
    slices: list[Slice]
    verdicts: tuple[Verdict, ...] = ()

    @property
    def held(self) -> bool:
        """Whether the client kept to its own arrival times, so that the rate was the one that was asked for."""
        return self.late_share <= LATE_SHARE

    @property
    def invalid(self) -> str:
        """Why the run says nothing about the server; empty when it does."""
        if not self.held:
            return (
                f"this machine was more than {LATE_MS:g} ms late for {self.late_share * 100:.3g} % of the requests, "
                f"{LATE_SHARE * 100:g} % are allowed"
            )
        ours = [one.entry.name for one in self.missed if one.ours]
        if ours and len(ours) == len(self.missed):
            return (
                f"this machine was up to {self.late_max_ms:.3g} ms late itself, without which {ours[0]} would be kept"
            )
        return ""

    @property
    def missed(self) -> list[Verdict]:
        """The entries of the budget that were not kept."""
        return [one for one in self.verdicts if not one.kept]


class _Answer(msgspec.Struct):
    source: str = ""
    degraded: bool = False


class _Problem(msgspec.Struct):
    error: str = ""
    field: str = ""


def fate(sent: Sent) -> str:
    """What became of a request: ANSWERED, DEGRADED, DEFAULT, or the kind of its error."""
    if not sent.status:
        return BROKEN if sent.broken else NO_ANSWER if sent.sent_ms is not None else NOT_SENT
    try:
        if sent.status == 200:
            answer = msgspec.json.decode(sent.body, type=_Answer)
            if answer.source == DEFAULT:
                return DEFAULT
            return "answer unreadable" if not answer.source else DEGRADED if answer.degraded else ANSWERED
        problem = msgspec.json.decode(sent.body, type=_Problem)
    except msgspec.MsgspecError:
        return f"HTTP {sent.status}" if sent.status != 200 else "answer unreadable"
    told = " ".join(part for part in (problem.error, problem.field) if part)
    return f"HTTP {sent.status}" + (f" ({told[:80]})" if told else "")


class Fates:
    """Keeps what became of each request, and none of the bodies."""

    def __init__(self) -> None:
        self.by_number: dict[int, str] = {}
        self._kinds = {ANSWERED, DEGRADED, DEFAULT, NO_ANSWER, BROKEN, NOT_SENT}

    def told(self, sent: Sent) -> None:
        """Take in a request that has ended; its body is let go of."""
        kind = fate(sent)
        if kind not in self._kinds:
            kind = kind if len(self._kinds) < KINDS else "other"
            self._kinds.add(kind)
        self.by_number[sent.at], sent.body = kind, b""


def quantile(values: Iterable[float], share: float) -> float:
    """The nearest-rank quantile, 0 < share <= 1: the least value that so many of the values do not exceed.

    NaN for no values. A request without an answer belongs in here as infinity.
    """
    return ordered_quantile(sorted(values), share)


def ordered_quantile(ordered: Sequence[float], share: float) -> float:
    """The same of values that are sorted already."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def figures(sent: Sequence[Sent], fates: Fates, rate: float, seconds: float, budget: tuple[Entry, ...] = ()) -> Figures:
    """What a run says. sent: the requests that count, in order of arrival (without those that warmed it up)."""
    kinds = Counter(fates.by_number.get(one.at) or fate(one) for one in sent)
    errors = {kind: times for kind, times in kinds.most_common() if kind not in (ANSWERED, DEGRADED, DEFAULT)}
    ordered = sorted(one.waited_ms for one in sent)
    late = sorted(one.late_ms for one in sent)
    in_time = sorted(one.waited_ms - one.late_ms for one in sent)
    counts = {
        "errors": sum(errors.values()),
        "defaults": kinds[DEFAULT],
        "degraded": kinds[DEGRADED] + kinds[DEFAULT],
    }
    return Figures(
        rate=rate,
        seconds=seconds,
        sent=len(sent),
        answered=kinds[ANSWERED] + kinds[DEGRADED],
        degraded=kinds[DEGRADED],
        defaults=kinds[DEFAULT],
        errors=errors,
        latency_ms={_name(share): ordered_quantile(ordered, share) for share in SHOWN},
        waited=sum(1 for one in sent if one.sent_ms is None or one.sent_ms - one.late_ms > _WAITED_MS),
        late_p99_ms=ordered_quantile(late, 0.99),
        late_max_ms=late[-1],
        late_share=sum(one > LATE_MS for one in late) / len(late),
        curve=[(share, ordered_quantile(ordered, share)) for share in _NINES if share < 1 - 0.5 / len(ordered)],
        slices=slices(sent, fates, seconds),
        verdicts=judge(
            budget,
            len(sent),
            counts,
            lambda share: ordered_quantile(ordered, share),
            lambda share: ordered_quantile(in_time, share),
        ),
    )


def _name(share: float) -> str:
    return "max" if share == 1 else "p" + f"{share * 100:g}"


def slices(sent: Sequence[Sent], fates: Fates, seconds: float) -> list[Slice]:
    """The run in equal pieces of its time, at most sixty and none without a request."""
    width = seconds / min(_SLICES, max(1, len(sent) // 10))
    pieces: dict[int, list[Sent]] = {}
    for one in sent:
        pieces.setdefault(int((one.due_s - sent[0].due_s) / width + 1e-9), []).append(one)
    made = []
    for place, found in sorted(pieces.items()):
        ordered = sorted(one.waited_ms for one in found)
        good = (ANSWERED, DEGRADED, DEFAULT)
        errors = sum((fates.by_number.get(one.at) or fate(one)) not in good for one in found)
        made.append(
            Slice(
                from_s=place * width,
                sent=len(found),
                errors=errors,
                p50_ms=ordered_quantile(ordered, 0.5),
                p99_ms=ordered_quantile(ordered, 0.99),
                max_ms=ordered[-1],
            )
        )
    return made
