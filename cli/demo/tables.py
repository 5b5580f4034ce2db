"""The demo's findings as tables that a newcomer understands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rdv.cli.report.page import Sheet

if TYPE_CHECKING:
    from rdv.cli.report.facts import Facts
    from rdv.serving.recording.events import Event
    from rdv.serving.recording.replay import ReplayReport

METRICS = ("auc", "accuracy", "logloss")
GIVEN = "the answers that were given"
NOBODY = "always the default"

WHO = (
    "Tier 1 is the champion inside its 30 ms; tier 2 lets the challenger answer; the default is for when nobody could."
)
RIGHT = "The cases are real and their outcome is known: AUC 0.5 is guessing, 1 is always right; the same for accuracy."
REPLAYED = (
    "The decoy's journal, fed to single versions, against what the champion's worker said when the requests came."
)


def who_answered(events: Sequence[Event]) -> Sheet:
    """A line for everybody who answered: by tier, model and version."""
    counts = Counter((event.source, event.model, event.version) for event in events)
    records = [
        {"source": source, "model": model, "version": version, "requests": count, "share": count / len(events)}
        for (source, model, version), count in sorted(counts.items(), key=lambda item: -item[1])
    ]
    return Sheet("Who answered", WHO, records)


def how_right(events: Sequence[Event], outcomes: Mapping[str, int], default: float) -> Sheet:
    """A line for the answers as they were given and for each version's scores, on the requests that it scored.

    outcomes: what came of each request, by id.
    """
    said: dict[str, list[tuple[int, float]]] = {GIVEN: [], NOBODY: []}
    for event in events:
        outcome = outcomes[event.id]
        said[GIVEN].append((outcome, event.answer[0]))
        said[NOBODY].append((outcome, default))
        for score in event.scores:
            said.setdefault(f"{score.model} {score.version}", []).append((outcome, score.values[0]))
    records = [{"who": who, "requests": len(pairs), **right(pairs)} for who, pairs in said.items()]
    return Sheet("Were they right?", RIGHT, records)


def right(pairs: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """How good probabilities were, by the metrics of training, on the pairs that have one."""
    import numpy as np

    from rdv.pipelines.metrics import compute_all

    found = np.array(pairs, dtype=np.float64)
    found = found[np.isfinite(found[:, 1])]
    every = compute_all("probability", found[:, 0], found[:, 1:])
    return {name: every.get(name) for name in METRICS}


def replayed(reports: Sequence[ReplayReport]) -> Sheet:
    """A line a version: how far it agrees with what the champion said live."""
    records = [
        {
            "replayed": f"{one.model} {one.version}",
            "requests": one.rows,
            "agreement": one.comparison.agreement,
            "mean_difference": one.comparison.columns[0].mean_difference,
            "median_score": middle(one)[0],
            "median_then": middle(one)[1],
            "p50_ms": one.timing.single_p50_ms,
        }
        for one in reports
        if one.comparison.columns
    ]
    return Sheet("Replay: what other versions would have said", REPLAYED, records)


def middle(report: ReplayReport) -> tuple[float, float]:
    """The medians of the replayed and of the recorded scores."""
    row = next(one for one in report.comparison.columns[0].quantiles if one.q == 0.5)
    return row.score, row.other


def model_lines(found: Facts) -> Sheet:
    """A line a model: how often it answered and how fast its scores came."""
    text = "Milliseconds from a request's acceptance to the model's score; every model scores every request."
    return Sheet("How fast each model was", text, [model.record(found.requests) for model in found.models])


def pair_lines(found: Facts) -> Sheet:
    """A line for every two models: how far they say the same."""
    text = "Same decision: both on the same side of one half. Rank correlation: 1 = the same order of cases."
    return Sheet("Do the models agree?", text, [pair.record() for pair in found.pairs])
