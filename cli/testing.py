"""What the tests of a service project build on: a version of a model trained for them alone, and its scores.

`rdv init` writes tests that use this, and `rdv.schema_strategy` for requests to score.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rdv.errors import InputError, RdvError

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.schema import GoalSchema
    from rdv.serving.score_file import FileScorer

_TRAIN_S = 600.0
_SLACK = 1e-6


class TrainedModel:
    """A version of a model, loaded as a worker loads it and ready to score requests. digest: of the model's files."""

    def __init__(self, project: Project, model: str, version: str) -> None:
        from rdv.cli.model_views import manifest_of
        from rdv.serving.score_file import open_scorer

        self.project, self.model, self.version = project, model, version
        self.digest = manifest_of(project, model, version).digest()
        self._scorer: FileScorer = open_scorer(project, model, version)

    @property
    def schema(self) -> GoalSchema:
        """The schema of the model's goal."""
        return self._scorer.schema

    def scores(self, requests: Iterable[Mapping[str, object]]) -> list[tuple[float, ...]]:
        """The score of each request, in order: one number, or one a label. InputError for one that is refused."""
        found = list(self._scorer.score(requests))
        for one in found:
            if one.problem:
                raise InputError(f"request {one.row} is refused: {one.problem}", "send what the schema allows")
        return [one.values for one in found]

    def reloaded(self) -> TrainedModel:
        """The same version, loaded again from its files."""
        return TrainedModel(self.project, self.model, self.version)

    def in_range(self, values: tuple[float, ...]) -> bool:
        """Whether a score is an answer: finite, a probability or probabilities that add up where the goal asks so."""
        kind = self._scorer.info.kind
        if not values or not all(math.isfinite(value) for value in values):
            return False
        if kind == "number":
            return True
        whole = kind != "labels" or math.isclose(sum(values), 1, abs_tol=_SLACK)
        return whole and all(0 <= value <= 1 for value in values)


def train(project: Project, model: str, state: Path, **params: bool | int | float | str) -> TrainedModel:
    """Train a model with some hyperparameters in a state folder of its own, on this machine; nothing else changes.

    RdvError with what `rdv train` said when it ends otherwise than well, a gate's refusal among it.
    """
    given = [part for name, value in params.items() for part in ("-P", f"{name}={value}")]
    argv = [sys.executable, "-P", "-m", "rdv.cli", "train", model, *given, "--project", str(project.folder)]
    environ = {**os.environ, "RDV_STATE": str(state), "RDV_ENV": "local"}
    ended = subprocess.run(
        [*argv, "-o", "json"], env=environ, capture_output=True, text=True, timeout=_TRAIN_S, check=False
    )
    if ended.returncode:
        raise RdvError(f"rdv train {model} ended with {ended.returncode}: {' '.join(ended.stderr.split())[-600:]}")
    version: Any = json.loads(ended.stdout)["version"]
    return TrainedModel(msgspec.structs.replace(project, env="local", kept=state), model, version)
