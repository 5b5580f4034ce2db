"""Labels: a label column as the numbers that training and metrics use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdv.errors import InputError
from rdv.pipelines.tables import Column

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Answers:
    """What is to be predicted. values: (n,) float64: 0 or 1, the label's place in `labels`, or the number itself.

    known: (n,), false where the row has no label. positive: the class whose probability is answered.
    """

    kind: str
    values: NDArray[np.float64]
    known: NDArray[np.bool_]
    labels: tuple[str, ...] = ()
    positive: str = ""


def encode_answers(kind: str, column: Column, labels: tuple[str, ...] = (), positive: str = "") -> Answers:
    """A label column for a goal that answers a `probability`, `labels` or a `number`.

    labels: the goal's, in the order of its answer; empty: the data's own, sorted. positive: empty means the larger of
    the two classes. Raises InputError when the column does not fit.
    """
    known = ~column.missing()
    if not known.any():
        raise InputError("the label column is empty", "see `label` of the model in rdv.toml")
    if kind == "number":
        if column.type == "string":
            raise InputError(f"the label column holds text such as {column.values[0]!r}, the goal answers a number")
        return Answers(kind, np.where(known, column.data, 0.0), known)
    texts = column.texts()
    found = _ordered(column, {text for text in texts if text is not None})
    if kind == "probability":
        if len(found) != 2:
            raise InputError(f"the label column has {len(found)} classes ({_some(found)}), a probability is of two")
        positive = positive or found[1]
        if positive not in found:
            raise InputError(f"positive = {positive!r} is not a class of the label column ({_some(found)})")
        values = np.array([float(text == positive) for text in texts])
        return Answers(kind, values, known, tuple(found), positive)
    order = labels or tuple(found)
    strange = [text for text in found if text not in order]
    if strange:
        raise InputError(f"the label column has {_some(strange)}, which the goal's labels lack", "add it to `labels`")
    places: dict[str | None, float] = {text: float(at) for at, text in enumerate(order)}
    return Answers(kind, np.array([places.get(text, 0.0) for text in texts]), known, order)


def _ordered(column: Column, found: set[str]) -> list[str]:
    return sorted(found, key=float) if column.type in ("number", "integer") else sorted(found)


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (", ..." if len(texts) > _SHOWN else "")
