"""A model that adds up its inputs: small enough to be checked by hand, exact for whole numbers below 2**53.

`rdv doctor` serves it, so that every answer that came through gateway, bus and worker can be compared with the right
one. The file is JSON: `{"offset": 1000.0}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rdv.errors import ModelUnloadable
from rdv.flavours import Predictor
from rdv.manifest import ModelInfo

if TYPE_CHECKING:
    from rdv.inputs import Matrix


class SumFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model file holds: a number that is added to the sum of the inputs."""

    offset: float


def load(info: ModelInfo, file: Path) -> Predictor:
    """The predictor of a sum model; see `rdv.flavours.load_predictor`."""
    if info.kind == "labels":
        raise ModelUnloadable(f"the sum model {file.name} answers one number, its manifest says labels")
    try:
        return SumPredictor(msgspec.json.decode(file.read_bytes(), type=SumFile).offset)
    except (msgspec.MsgspecError, OSError) as error:
        raise ModelUnloadable(f"the sum model {file.name} cannot be read: {error}", "see `rdv doctor`") from None


class SumPredictor:
    """Adds the columns one after the other, so that a row's sum does not depend on the rows beside it."""

    width = 1

    def __init__(self, offset: float) -> None:
        self._offset = offset

    def predict(self, matrix: Matrix) -> Matrix:
        """Scores (n, 1) of a matrix (n, d)."""
        import numpy as np

        total = np.full((len(matrix), 1), self._offset)
        for column in range(matrix.shape[1]):
            total[:, 0] += matrix[:, column]
        return total
