"""Metrics of predictions against known answers, in numpy: name, direction, and what kind of model each is for.

Shapes: answers (n,), scores (n, width) as a predictor gives them. `probability`: answers 0 or 1, width 1.
`labels`: answers are label numbers, width = labels. `number`: answers are numbers, width 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdv.errors import ConfigError

Floats = NDArray[np.float64]

_EPSILON = 1e-15


@dataclass(frozen=True, slots=True)
class Metric:
    """A named number about predictions; `maximise` says which way is better."""

    name: str
    maximise: bool
    compute: Callable[[Floats, Floats], float]


def auc(answers: Floats, scores: Floats) -> float:
    """The chance that a positive row scores above a negative one, ties counting half; NaN with one class only."""
    positive = answers == 1
    many, rest = int(positive.sum()), int((~positive).sum())
    if not many or not rest:
        return float("nan")
    return float((_ranks(scores[:, 0])[positive].sum() - many * (many + 1) / 2) / (many * rest))


def average_precision(answers: Floats, scores: Floats) -> float:
    """The mean precision over all recall steps, rows of one score taken together; NaN without a positive row."""
    order = np.argsort(-scores[:, 0], kind="stable")
    ranked, hits = scores[order, 0], answers[order] == 1
    if not hits.any():
        return float("nan")
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    found = np.cumsum(hits)[ends]
    steps = np.diff(found, prepend=0)
    return float((steps * found / (ends + 1)).sum() / found[-1])


def binary_logloss(answers: Floats, scores: Floats) -> float:
    """Mean negative log likelihood of the known class, in nats; probabilities are kept 1e-15 off 0 and 1."""
    chance = np.clip(scores[:, 0], _EPSILON, 1 - _EPSILON)
    return float(-np.mean(np.where(answers == 1, np.log(chance), np.log1p(-chance))))


def labels_logloss(answers: Floats, scores: Floats) -> float:
    """Mean negative log likelihood of the known label, in nats, rows brought to a sum of one."""
    chances = np.clip(scores, _EPSILON, None)
    chances = chances / chances.sum(axis=1, keepdims=True)
    return float(-np.mean(np.log(chances[np.arange(len(answers)), answers.astype(np.int64)])))


def brier(answers: Floats, scores: Floats) -> float:
    """Mean squared difference of probability and outcome, between 0 and 1."""
    return float(np.mean((scores[:, 0] - answers) ** 2))


def binary_accuracy(answers: Floats, scores: Floats) -> float:
    """The share of rows whose class is met, the positive one being answered from 0.5 on."""
    return float(np.mean((scores[:, 0] >= 0.5) == (answers == 1)))


def labels_accuracy(answers: Floats, scores: Floats) -> float:
    """The share of rows whose best-scored label is the known one."""
    return float(np.mean(np.argmax(scores, axis=1) == answers))


def rmse(answers: Floats, scores: Floats) -> float:
    """The root of the mean squared error, in the answer's unit."""
    return float(np.sqrt(np.mean((scores[:, 0] - answers) ** 2)))


def mae(answers: Floats, scores: Floats) -> float:
    """The mean absolute error, in the answer's unit."""
    return float(np.mean(np.abs(scores[:, 0] - answers)))


def r2(answers: Floats, scores: Floats) -> float:
    """The share of the answers' variance that the scores explain, at most 1; NaN for constant answers."""
    spread = float(np.sum((answers - answers.mean()) ** 2))
    return 1.0 - float(np.sum((scores[:, 0] - answers) ** 2)) / spread if spread else float("nan")


METRICS: dict[str, dict[str, Metric]] = {
    "probability": {
        "auc": Metric("auc", True, auc),
        "logloss": Metric("logloss", False, binary_logloss),
        "accuracy": Metric("accuracy", True, binary_accuracy),
        "average_precision": Metric("average_precision", True, average_precision),
        "brier": Metric("brier", False, brier),
    },
    "labels": {
        "logloss": Metric("logloss", False, labels_logloss),
        "accuracy": Metric("accuracy", True, labels_accuracy),
    },
    "number": {
        "rmse": Metric("rmse", False, rmse),
        "mae": Metric("mae", False, mae),
        "r2": Metric("r2", True, r2),
    },
}
"""Kind of model to its metrics, the first of each kind being the default."""


def metric(kind: str, name: str = "", direction: str = "") -> Metric:
    """A kind's metric by name, its default for an empty name; `direction` overrides which way is better."""
    known = METRICS[kind]
    found = known.get(name or next(iter(known)))
    if found is None:
        raise ConfigError(
            f"metric {name!r} is not one for a model that answers a {kind}", f"say one of {', '.join(known)}"
        )
    if not direction:
        return found
    return Metric(found.name, direction == "maximise", found.compute)


def compute_all(kind: str, answers: Floats, scores: Floats) -> dict[str, float]:
    """Every metric of a kind by name; those that are not defined for these rows are left out."""
    made = {name: one.compute(answers, scores) for name, one in METRICS[kind].items()}
    return {name: value for name, value in made.items() if np.isfinite(value)}


def at_least_as_good(maximise: bool, value: float, other: float) -> bool:
    """Whether a metric's value beats or matches another one, to nine digits; a value that is no number never does."""
    slack = 1e-9 * max(abs(value), abs(other))
    return value >= other - slack if maximise else value <= other + slack


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing their mean."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks
