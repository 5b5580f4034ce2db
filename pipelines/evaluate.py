"""Evaluation: the best model of a sweep, judged on the test part, which nothing before has looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from rdv.errors import StepFailed
from rdv.flavours import load_predictor
from rdv.inputs import compile_encoder
from rdv.manifest import ModelInfo
from rdv.pipelines.base import Artifact, Inputs, StepResult, Task
from rdv.pipelines.features import Features, read_features, read_table, table_rows
from rdv.pipelines.metrics import compute_all
from rdv.pipelines.names import Value
from rdv.pipelines.train import train_class

if TYPE_CHECKING:
    from rdv.inputs import Matrix

SCORES, REPORT = "scores.npy", "report.json"


class Report(msgspec.Struct, frozen=True):
    """What the test part says about a model. rows: how many it has."""

    rows: int
    metrics: dict[str, float]


class EvaluateTask(Task):
    """Scores the test part with the model of the best point."""

    family = "evaluate"
    version = "1"

    def requires(self) -> list[Task]:
        """The models that are still missing, or the best one."""
        train = self.sibling(train_class(self.context))
        pending = self.context.run().pending()
        if pending:
            return [self.sibling(type(train), point) for point in pending]
        return list(self.upstream().values())

    def upstream(self) -> dict[str, Task]:
        """The best model and the features that it was made from; NotYet while a model is missing."""
        best = self.sibling(train_class(self.context), self.context.run().chosen())
        return {"model": best, **best.upstream()}

    def parameters(self) -> dict[str, Value]:
        """The model's name."""
        return {"model": self.model}

    def run_step(self, inputs: Inputs, output_folder: Path, params: Mapping[str, Value]) -> StepResult:
        """Write the test part's scores and metrics."""
        features = read_features(inputs["features"].fetch)
        scores = test_scores(inputs["model"], features, inputs["features"])
        answers = features.answers[features.indices("test")]
        report = Report(len(answers), compute_all(features.kind, answers, scores))
        np.save(output_folder / SCORES, scores, allow_pickle=False)
        (output_folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report, order="sorted")))
        return StepResult(metrics={f"test_{name}": value for name, value in report.metrics.items()})


def model_of(artifact: Artifact) -> ModelInfo:
    """The model in an artifact; StepFailed when it holds none."""
    if artifact.manifest.model is None:
        raise StepFailed(f"artifact {artifact.manifest.name} holds no model", "train it again")
    return artifact.manifest.model


def test_scores(model: Artifact, features: Features, source: Artifact) -> Matrix:
    """A model's scores (n, width) of the test part's rows. source: the features' artifact.

    Raises InputError when the model reads a field that the features' schema lacks.
    """
    info = model_of(model)
    schema, rows = features.about.schema, features.indices("test")
    encode = compile_encoder(info.inputs, schema)
    matrix = encode(table_rows(schema, read_table(source.fetch), rows))
    return load_predictor(info, model.fetch(info.file)).predict(matrix)
