"""The case that all serving scenarios share: a schema of 30 bounded numbers, rows of it, LightGBM models."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightgbm
    import numpy as np

GOAL = "visit"
PATH = f"/v1/goals/{GOAL}/score"
FIELDS = tuple(f"f{at:02d}" for at in range(30))
TREES = 100
BODIES, BODIES_SEED = 256, 7
_BOUND = 8.0


def schema() -> dict[str, Any]:
    """The goal's JSON Schema: 30 required numbers within bounds, nothing else."""
    return {
        "type": "object",
        "properties": {name: {"type": "number", "minimum": -_BOUND, "maximum": _BOUND} for name in FIELDS},
        "required": list(FIELDS),
        "additionalProperties": False,
    }


def rows(count: int, seed: int) -> np.ndarray:
    """Rows within the schema, of six decimals, so that their JSON is about 600 bytes; (count, 30) float64."""
    import numpy as np

    drawn = np.random.default_rng(seed).normal(size=(count, len(FIELDS)))
    return np.round(np.clip(drawn, -_BOUND, _BOUND), 6)


def bodies(matrix: np.ndarray) -> list[bytes]:
    """One JSON document a row."""
    return [json.dumps(dict(zip(FIELDS, row, strict=True))).encode() for row in matrix.tolist()]


def train(seed: int) -> lightgbm.Booster:
    """A binary LightGBM model of 100 trees over the 30 fields; another seed, another model."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import lightgbm
    import numpy as np

    matrix = rows(4_000, seed)
    rng = np.random.default_rng(seed + 1)
    hidden = matrix[:, :10] @ rng.normal(size=10) + matrix[:, 10] * matrix[:, 11]
    label = (hidden + rng.normal(size=len(matrix)) > 0).astype(int)
    data = lightgbm.Dataset(matrix, label, feature_name=list(FIELDS))
    told = {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": seed}
    return lightgbm.train({**told, "deterministic": True}, data, num_boost_round=TREES)


def write_bodies(folder: Path) -> tuple[Path, np.ndarray]:
    """A file of request bodies, one a line, and the matrix they were made of."""
    matrix = rows(BODIES, BODIES_SEED)
    file = folder / "bodies.jsonl"
    file.write_bytes(b"\n".join(bodies(matrix)) + b"\n")
    return file, matrix


@cache
def model_text(seed: int) -> str:
    """A model of the case as LightGBM text, trained once a process."""
    text: str = train(seed).model_to_string()
    return text


@cache
def predictions(seed: int) -> list[float]:
    """What LightGBM itself says about the request bodies: the judge of every answer."""
    import lightgbm

    booster = lightgbm.Booster(model_str=model_text(seed))
    return [float(score) for score in booster.predict(rows(BODIES, BODIES_SEED), num_threads=1)]
