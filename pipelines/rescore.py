"""A fresh process that loads a model and scores a matrix: `python -P -m rdv.pipelines.rescore FOLDER`.

The folder holds `model.json` (a ModelInfo whose file is a path) and `matrix.npy`; `scores.npy` is written beside them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec.structs import replace

from rdv.errors import ModelUnloadable
from rdv.flavours import load_predictor
from rdv.manifest import ModelInfo

if TYPE_CHECKING:
    from rdv.inputs import Matrix

_LIMIT_S = 300.0


def fresh_scores(info: ModelInfo, file: Path, matrix: Matrix, folder: Path) -> Matrix:
    """The scores that a fresh process computes with a model file. folder: an empty one to work in.

    Raises ModelUnloadable when the process fails, dies or takes longer than five minutes.
    """
    (folder / "model.json").write_bytes(msgspec.json.encode(replace(info, file=str(file))))
    np.save(folder / "matrix.npy", matrix, allow_pickle=False)
    command = [sys.executable, "-P", "-m", "rdv.pipelines.rescore", str(folder)]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ModelUnloadable(f"a fresh process did not score with {file.name} within {_LIMIT_S:g} s") from None
    if ended.returncode:
        told = ended.stderr.decode(errors="replace").strip().splitlines()
        raise ModelUnloadable(
            f"a fresh process cannot score with {file.name}: {told[-1] if told else ended.returncode}"
        )
    scores: Matrix = np.load(folder / "scores.npy", allow_pickle=False)
    return scores


def main(folder: Path) -> None:
    """Load, score, save."""
    info = msgspec.json.decode((folder / "model.json").read_bytes(), type=ModelInfo)
    predictor = load_predictor(info, Path(info.file))
    scores = predictor.predict(np.load(folder / "matrix.npy", allow_pickle=False))
    np.save(folder / "scores.npy", scores, allow_pickle=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
