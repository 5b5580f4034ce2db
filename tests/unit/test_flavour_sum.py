"""The model that adds up its inputs, which `rdv doctor` checks every answer against."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import ModelUnloadable
from rdv.flavours import load_predictor
from rdv.flavours_sum import SumPredictor
from rdv.inputs import InputField, InputSpec
from rdv.manifest import ModelInfo

WHOLE = st.integers(-(2**40), 2**40)
INFO = ModelInfo(file="model.json", flavour="sum", kind="number", inputs=InputSpec((InputField("a"), InputField("b"))))


@given(st.lists(st.tuples(WHOLE, WHOLE, WHOLE), min_size=1), WHOLE)
def test_sums_of_whole_numbers_are_exact(rows: list[tuple[int, int, int]], offset: int) -> None:
    """Every row's score is the exact sum of its inputs and the offset."""
    scores = SumPredictor(float(offset)).predict(np.array(rows, dtype=np.float64))
    assert scores[:, 0].tolist() == [float(sum(row) + offset) for row in rows]


def test_the_one_loader_knows_it(tmp_path: Path) -> None:
    """A sum model is loaded by the same function as every other flavour."""
    file = tmp_path / "model.json"
    file.write_text('{"offset": 1000}')
    assert load_predictor(INFO, file).predict(np.array([[1.0, 2.0]])).tolist() == [[1003.0]]


@pytest.mark.parametrize("text", ["", "{}", '{"offset": "1"}', '{"offset": 1, "code": "x"}', "[1]"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    """Anything but the one document it knows is a ModelUnloadable."""
    file = tmp_path / "model.json"
    file.write_text(text)
    with pytest.raises(ModelUnloadable, match=r"model\.json"):
        load_predictor(INFO, file)
