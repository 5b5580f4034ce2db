"""From frames of requests to frames of scores, in one predict call for all that is waiting.

One model version answers each frame; a row that cannot be scored is NaN and disturbs no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rdv.flavours import Predictor
from rdv.ids import MESSAGE_ID_BYTES
from rdv.inputs import Rows
from rdv.manifest import ModelInfo
from rdv.serving.bus.columns import alive
from rdv.serving.bus.port import Batch, Requests, Scores

if TYPE_CHECKING:
    from rdv.inputs import Matrix

_log = logging.getLogger("rdv.scoring")


@dataclass(slots=True, frozen=True)
class LoadedModel:
    """A version that is ready to score. columns: numbers a row of its topic has."""

    version: str
    digest: str
    info: ModelInfo
    predictor: Predictor
    encode: Callable[[Rows], Matrix]
    columns: int


def answer(model: LoadedModel, batches: Sequence[Batch], now: float, clock: Callable[[], float]) -> list[Scores]:
    """One Scores a batch, in order. Rows nobody waits for at `now` are skipped; all others are scored together.

    now, clock: CLOCK_MONOTONIC seconds, of the batches' arrival and at any moment.
    """
    live = [_alive(batch, now) for batch in batches]
    waiting = [batch for batch, _ in live if batch is not None]
    began = clock()
    values = score(model, rows_of(waiting, model.columns)) if waiting else None
    eval_s = clock() - began
    answers, at = [], 0
    for (batch, skipped), sent in zip(live, batches, strict=True):
        data = b""
        if batch is not None:
            assert values is not None
            data = values[at : at + batch.n].tobytes()
            at += batch.n
        ids = b"" if batch is None else batch.ids
        width = model.predictor.width
        answers.append(Scores(sent.reply_to, model.version, ids, data, width, skipped, began - now, eval_s))
    return answers


def score(model: LoadedModel, rows: Rows) -> Matrix:
    """Scores (n, width) of some rows of the model's topic; NaN where the model has no usable one."""
    import numpy as np

    try:
        values = model.predictor.predict(model.encode(rows))
    except Exception as error:  # whatever one row does to a library, the others are answered
        if len(rows) == 1:
            _tell_once(model.version, type(error).__name__, str(error))
            return np.full((1, model.predictor.width), np.nan)
        return np.concatenate([score(model, _single(rows, at)) for at in range(len(rows))])
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.nan)


def rows_of(batches: Sequence[Requests], columns: int) -> Rows:
    """Several batches of one topic as one; len(batches) >= 1."""
    import numpy as np

    if len(batches) == 1:
        batch = batches[0]
        return Rows(np.frombuffer(batch.numbers, dtype="<f8").reshape(batch.n, columns), batch.strings)
    numbers = np.frombuffer(b"".join([batch.numbers for batch in batches]), dtype="<f8")
    n = sum([batch.n for batch in batches])
    strings = [[text for batch in batches for text in batch.strings[at]] for at in range(len(batches[0].strings))]
    return Rows(numbers.reshape(n, columns), strings)


@lru_cache(maxsize=64)
def _told(version: str, kind: str) -> list[str]:
    return []


def _tell_once(version: str, kind: str, text: str) -> None:
    """Log the first failure of a kind and version: under load there may be thousands a second."""
    told = _told(version, kind)
    if not told:
        told.append(text)
        _log.warning("%s cannot score some rows, which are answered by others: %s: %s", version, kind, text)


def _alive(batch: Batch, now: float) -> tuple[Requests | None, int]:
    """The rows of a batch to be scored, and how many are not."""
    if not isinstance(batch, Requests):
        return None, batch.n
    left, expired = alive(batch, now)
    return left if isinstance(left, Requests) else None, len(expired) // MESSAGE_ID_BYTES


def _single(rows: Rows, at: int) -> Rows:
    return Rows(rows.numbers[at : at + 1], [column[at : at + 1] for column in rows.strings])
