"""Scores of one version beside another's on the same requests: agreement, differences, quantiles. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rdv.config import Answer

if TYPE_CHECKING:
    from rdv.inputs import Matrix

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
THRESHOLD = 0.5
CLOSE = 0.01
MOST_PAIRS = 2000


class QuantileRow(msgspec.Struct, frozen=True):
    """One quantile of both score distributions, on the requests that both have scored."""

    q: float
    score: float
    other: float


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One value of the scores: the probability, the number, or one label's probability (`name`).

    pairs: up to 2,000 (score, other), evenly spread over the requests in order.
    """

    name: str
    mean_difference: float
    mean_distance: float
    largest_distance: float
    quantiles: tuple[QuantileRow, ...]
    pairs: tuple[tuple[float, float], ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions on the same requests. agreement: the share of requests on which they say the same, None of none.

    The same is: of probabilities, the same side of 0.5; of labels, the same most probable one; of numbers, a distance
    of at most 1 % of the other's 10-to-90 % range.
    """

    requests: int
    agreement: float | None = None
    columns: tuple[Column, ...] = ()


def compare(answer: Answer, labels: tuple[str, ...], scores: Matrix, others: Matrix) -> Comparison:
    """Compare scores (n, width) with others (n, width) row by row; rows with a NaN on either side are left out."""
    import numpy as np

    both = np.isfinite(scores).all(axis=1) & np.isfinite(others).all(axis=1)
    mine, theirs = scores[both], others[both]
    if not len(mine):
        return Comparison(requests=0)
    names = labels if answer == "labels" else (answer,)
    columns = tuple(_column(name, mine[:, at], theirs[:, at]) for at, name in enumerate(names))
    return Comparison(requests=len(mine), agreement=float(np.mean(_same(answer, mine, theirs))), columns=columns)


def _same(answer: Answer, mine: Matrix, theirs: Matrix) -> Any:
    import numpy as np

    if answer == "probability":
        return (mine[:, 0] >= THRESHOLD) == (theirs[:, 0] >= THRESHOLD)
    if answer == "labels":
        return mine.argmax(axis=1) == theirs.argmax(axis=1)
    low, high = np.quantile(theirs[:, 0], (0.1, 0.9))
    return np.abs(mine[:, 0] - theirs[:, 0]) <= CLOSE * (high - low)


def _column(name: str, mine: Any, theirs: Any) -> Column:
    import numpy as np

    distance = np.abs(mine - theirs)
    chosen = np.linspace(0, len(mine) - 1, min(MOST_PAIRS, len(mine))).astype(int)
    rows = zip(QUANTILES, np.quantile(mine, QUANTILES).tolist(), np.quantile(theirs, QUANTILES).tolist(), strict=True)
    return Column(
        name=name,
        mean_difference=float(np.mean(mine - theirs)),
        mean_distance=float(distance.mean()),
        largest_distance=float(distance.max()),
        quantiles=tuple(QuantileRow(*row) for row in rows),
        pairs=tuple(zip(mine[chosen].tolist(), theirs[chosen].tolist(), strict=True)),
    )
