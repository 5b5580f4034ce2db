"""What the gateway's answers say, checked against the models' own predictions: values in, values out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from load import Sent

TOLERANCE = 1e-9


class Answer(msgspec.Struct, frozen=True):
    """The part of an answer that the benchmarks read. source: `tier 1` ..., or `default`."""

    answer: float
    source: str = ""
    model: str | None = None
    version: str | None = None

    @property
    def default(self) -> bool:
        """Whether no model made it in time."""
        return self.source.startswith("default")


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run's requests. lost: without any answer. refused: answered with another status than 200."""

    sent: int
    lost: int
    refused: int
    defaults: int
    sources: dict[str, int]
    versions: dict[str, int]


def check(
    sent: Sequence[Sent], expected: Mapping[tuple[str, str], Sequence[float]], default: float, lossy: bool = False
) -> Tally:
    """The tally of a run whose every answer was compared with what its model and version must answer.

    Raises AssertionError naming the first wrong one, and for an answer that is no 200 unless `lossy`.
    """
    sources: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    refused = 0
    for request in sent:
        if request.status not in (0, 200):
            refused += 1
            if not lossy:
                raise AssertionError(f"request {request.at}: status {request.status}: {request.body!r}")
        if request.status != 200:
            continue
        answer = msgspec.json.decode(request.body, type=Answer)
        sources[answer.source] += 1
        versions[f"{answer.model} {answer.version}"] += 1
        right = expected_answer(answer, request.at, expected, default)
        if abs(answer.answer - right) > TOLERANCE:
            raise AssertionError(f"request {request.at}: {answer} must be {right}")
    return Tally(
        sent=len(sent),
        lost=sum(request.status == 0 for request in sent),
        refused=refused,
        defaults=sum(count for source, count in sources.items() if source.startswith("default")),
        sources=dict(sources),
        versions=dict(versions),
    )


def expected_answer(
    answer: Answer, at: int, expected: Mapping[tuple[str, str], Sequence[float]], default: float
) -> float:
    """What an answer has to say, by the model and version it names; AssertionError when nobody published those."""
    if answer.default:
        return default
    right = expected.get((answer.model or "", answer.version or ""))
    if right is None:
        raise AssertionError(f"request {at}: {answer} names a model and version that were never published")
    return right[at % len(right)]
