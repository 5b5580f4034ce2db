"""What happened to a goal's requests, computed from its recorded events. Pure: events in, figures out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LATENCIES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
DEFAULT = "default"
BINS = 60
PROBABILITY, NUMBER = "probability", "number"


class Scored(Protocol):
    """One model's score within an event."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def values(self) -> Sequence[float]: ...
    @property
    def latency_ms(self) -> float: ...
    @property
    def late(self) -> bool: ...


class Event(Protocol):
    """One recorded request; see `rdv.serving.recording.events`."""

    @property
    def accepted_at(self) -> float: ...
    @property
    def model(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def elapsed_ms(self) -> float: ...
    @property
    def scores(self) -> Sequence[Scored]: ...


@dataclass
class ModelFacts:
    """One model over all requests. scores, decisions: one number a request each, NaN where there is none."""

    model: str
    versions: list[str]
    answered: int
    scored: int
    missing: int
    late: int
    latency_ms: Numbers
    scores: Numbers
    decisions: Numbers

    def record(self, requests: int) -> dict[str, object]:
        """The model's figures as one line of a table."""
        return {
            "model": self.model,
            "versions": len(self.versions),
            "answered": self.answered,
            "share": self.answered / requests if requests else 0.0,
            "scored": self.scored,
            "missing": self.missing,
            "late": self.late,
            **latencies(self.latency_ms),
        }


@dataclass
class Pair:
    """Two models on the same requests."""

    one: str
    other: str
    both: int
    same_decision: float | None
    mean_difference: float
    rank_correlation: float

    def record(self) -> dict[str, object]:
        """The pair as one line of a table."""
        return {
            "models": f"{self.one} and {self.other}",
            "requests": self.both,
            "same_decision": self.same_decision,
            "mean_difference": self.mean_difference,
            "rank_correlation": self.rank_correlation,
        }


@dataclass
class Facts:
    """A goal's recorded requests. timeline: answers a bin by who answered; edges: the bins', epoch seconds."""

    goal: str
    requests: int
    began: float
    ended: float
    sources: Mapping[str, int]
    reasons: Mapping[str, int]
    elapsed_ms: Numbers
    models: Sequence[ModelFacts]
    pairs: Sequence[Pair]
    edges: Numbers
    timeline: Mapping[str, Numbers] = field(default_factory=dict)


def latencies(values: Numbers) -> dict[str, float | None]:
    """The quantiles that a person reads, in milliseconds; None without values."""
    import numpy as np

    if not values.size:
        return dict.fromkeys(LATENCIES)
    return {name: float(np.quantile(values, q)) for name, q in LATENCIES.items()}


def facts(goal: str, answer: str, events: Iterable[Event]) -> Facts:
    """All figures of a goal's events. answer: the goal's kind, `probability`, `labels` or `number`."""
    import numpy as np

    seen = list(events)
    accepted = np.array([event.accepted_at for event in seen], dtype=np.float64)
    began, ended = (float(accepted.min()), float(accepted.max())) if seen else (0.0, 0.0)
    edges = np.linspace(began, max(ended, began + 1.0), BINS + 1)
    names = sorted({score.model for event in seen for score in event.scores})
    models = [model_facts(name, answer, seen) for name in names]
    return Facts(
        goal=goal,
        requests=len(seen),
        began=began,
        ended=ended,
        sources=dict(sorted(Counter(event.source for event in seen).items())),
        reasons=dict(Counter(event.reason for event in seen if event.source == DEFAULT)),
        elapsed_ms=np.array([event.elapsed_ms for event in seen], dtype=np.float64),
        models=models,
        pairs=[pair(one, other) for one, other in combinations(models, 2)],
        edges=edges,
        timeline=timeline(seen, accepted, edges),
    )


def timeline(events: Sequence[Event], accepted: Numbers, edges: Numbers) -> dict[str, Numbers]:
    """How many requests of each bin were answered by which version of which model, or by the default."""
    import numpy as np

    who = [f"{event.model} {event.version}" if event.model else DEFAULT for event in events]
    first: dict[str, int] = {}
    for place, name in enumerate(who):
        first.setdefault(name, place)
    chosen = np.array(who)
    return {name: np.histogram(accepted[chosen == name], edges)[0].astype(np.float64) for name in first}


def model_facts(model: str, answer: str, events: Sequence[Event]) -> ModelFacts:
    """One model's figures over all events; a score without a usable value counts as missing."""
    import numpy as np

    scores, decisions = np.full((2, len(events)), np.nan)
    latency, versions, late = [], [], 0
    for place, event in enumerate(events):
        for score in event.scores:
            if score.model != model:
                continue
            scores[place], decisions[place] = number(score.values), decision(score.values, answer)
            latency.append(score.latency_ms)
            late += score.late
            if score.version not in versions:
                versions.append(score.version)
    scored = int(np.isfinite(scores).sum())
    answered = sum(event.model == model for event in events)
    latency_ms = np.array(latency, dtype=np.float64)
    return ModelFacts(model, versions, answered, scored, len(events) - scored, late, latency_ms, scores, decisions)


def number(values: Sequence[float]) -> float:
    """One number for a score: the value itself, or the greatest of a vector; NaN for none."""
    return max(values) if values else float("nan")


def decision(values: Sequence[float], answer: str) -> float:
    """What follows from a score: the side of one half, or the place of the likeliest label; NaN for plain numbers."""
    if not values or answer == NUMBER:
        return float("nan")
    return float(values[0] >= 0.5) if answer == PROBABILITY else float(values.index(max(values)))


def pair(one: ModelFacts, other: ModelFacts) -> Pair:
    """How far two models say the same about the same requests.

    same_decision: share of requests on the same side of one half, or with the same label; None for plain numbers.
    mean_difference: of the scores, without sign. rank_correlation: Spearman's, 1 = the same order.
    """
    import numpy as np

    both = np.isfinite(one.scores) & np.isfinite(other.scores)
    a, b = one.scores[both], other.scores[both]
    if not a.size:
        return Pair(one.model, other.model, 0, None, float("nan"), float("nan"))
    decided = bool(np.isfinite(one.decisions[both]).all())
    same = float(np.mean(one.decisions[both] == other.decisions[both])) if decided else None
    return Pair(one.model, other.model, int(a.size), same, float(np.abs(a - b).mean()), rank_correlation(a, b))


def rank_correlation(a: Numbers, b: Numbers) -> float:
    """Spearman's rank correlation, ties by their mean rank; NaN when either is constant."""
    import numpy as np

    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / spread if spread else float("nan")


def ranks(values: Numbers) -> Numbers:
    """The rank of each value from 0, equal values sharing the mean of theirs."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    result: Numbers = (ends - (counts + 1) / 2)[place]
    return result
