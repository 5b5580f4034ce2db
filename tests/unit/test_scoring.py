"""Frames in, one Scores a frame out, whatever single rows do."""

import math
import struct
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rdv.inputs import InputField, InputSpec, Rows
from rdv.manifest import ModelInfo
from rdv.serving.bus.port import Events, Requests, Scores
from rdv.serving.worker.scoring import LoadedModel, answer, score

POISON = 13.0
INFO = ModelInfo("m", "sum", "number", InputSpec((InputField("a"), InputField("b"))))


class Adder:
    """Adds a row's columns, refuses a batch with a poisoned row, and counts its calls."""

    width = 1

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        self.calls += 1
        if (matrix == POISON).any():
            raise ValueError("poison")
        return matrix.sum(axis=1, keepdims=True)


def loaded(predictor: Adder, encode: Callable[[Rows], np.ndarray] = lambda rows: rows.numbers) -> LoadedModel:
    """A model of two numbers."""
    return LoadedModel("v1", "d", INFO, predictor, encode, 2)


def requests(values: list[float], deadlines: list[float], reply_to: str = "g") -> Requests:
    """Rows (value, 1); ids count up."""
    n = len(values)
    ids = b"".join(at.to_bytes(16, "big") for at in range(n))
    numbers = struct.pack(f"<{2 * n}d", *(part for value in values for part in (value, 1.0)))
    return Requests("t", reply_to, n, ids, struct.pack(f"<{n}d", *deadlines), bytes(8 * n), bytes(8 * n), numbers, [])


ROWS = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, POISON, math.inf]), st.sampled_from([5.0, 15.0])), min_size=1, max_size=9
)


@given(st.lists(ROWS, min_size=1, max_size=5))
def test_each_frame_gets_its_own_rows_back(frames: list[list[tuple[float, float]]]) -> None:
    """Rows still waited for are scored in order, the poisoned as NaN, the others skipped, one Scores a frame."""
    batches = [requests([value for value, _ in rows], [deadline for _, deadline in rows]) for rows in frames]
    answers = answer(loaded(Adder()), batches, 10.0, lambda: 10.0)
    assert len(answers) == len(batches)
    for rows, scores in zip(frames, answers, strict=True):
        live = [(at, value) for at, (value, deadline) in enumerate(rows) if deadline > 10.0]
        assert scores.ids == b"".join(at.to_bytes(16, "big") for at, _ in live)
        assert scores.skipped == len(rows) - len(live)
        found = struct.unpack(f"<{len(live)}d", scores.values)
        for (_, value), number in zip(live, found, strict=True):
            assert math.isnan(number) if value in (POISON, math.inf) else number == value + 1.0


def test_all_that_waits_is_scored_in_one_call() -> None:
    """Several frames cost one predict call, with nothing to score none."""
    adder = Adder()
    answer(loaded(adder), [requests([1.0] * 3, [15.0] * 3)] * 4, 10.0, lambda: 10.0)
    assert adder.calls == 1
    assert answer(loaded(adder), [requests([1.0], [5.0])], 10.0, lambda: 10.0) == [Scores("g", "v1", b"", b"", 1, 1)]
    assert adder.calls == 1


def test_frames_are_answered_to_where_they_came_from() -> None:
    """Each Scores carries its own frame's return address and the version that made it."""
    frames = [requests([1.0], [15.0], "one"), requests([2.0], [15.0], "two")]
    assert [(one.reply_to, one.version) for one in answer(loaded(Adder()), frames, 10.0, lambda: 10.0)] == [
        ("one", "v1"),
        ("two", "v1"),
    ]


def test_frames_that_are_no_requests_return_their_credit() -> None:
    """A frame that no model can score is answered as skipped, so that its credit returns."""
    answers = answer(loaded(Adder()), [Events("t", "g", bytes(32), [b"", b""])], 10.0, lambda: 10.0)
    assert answers == [Scores("g", "v1", b"", b"", 1, 2)]


def test_a_row_that_cannot_be_encoded_disturbs_no_other() -> None:
    """When encoding a batch fails, its rows are encoded one by one and only the bad one is NaN."""

    def encode(rows: Rows) -> np.ndarray:
        if (rows.numbers[:, 0] < 0).any():
            raise KeyError("negative")
        return rows.numbers

    rows = Rows(np.array([[1.0, 1.0], [-1.0, 1.0], [3.0, 1.0]]))
    found = score(loaded(Adder(), encode), rows)
    assert np.array_equal(found, [[2.0], [np.nan], [4.0]], equal_nan=True)
