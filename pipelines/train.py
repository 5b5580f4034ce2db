"""Training tasks: what a subclass writes, and what every training step does around it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
import numpy as np

from rdv.errors import ConfigError, StepFailed, UsageError
from rdv.flavours import load_predictor
from rdv.inputs import compile_encoder
from rdv.manifest import ModelInfo
from rdv.pipelines.base import Artifact, Context, Inputs, StepResult, Task
from rdv.pipelines.dataset import FeaturesTask
from rdv.pipelines.features import Features, read_features, read_table, table_rows
from rdv.pipelines.metrics import compute_all
from rdv.pipelines.names import Value
from rdv.pipelines.step import find_task
from rdv.probe_rows import to_probe_rows

if TYPE_CHECKING:
    from rdv.inputs import Matrix

PROBE_ROWS = 16
BUILT_IN = {
    "lightgbm": "rdv.pipelines.tabular_lightgbm:LightGBMTask",
    "catboost": "rdv.pipelines.tabular_catboost:CatBoostTask",
}
ROUND_TRIP = {"rtol": 1e-9, "atol": 1e-12}


def load_features(features: Artifact) -> Features:
    """The features that a training step was given: `load_features(inputs["features"])`. Read-only; read once."""
    if "features" not in features.kept:
        features.kept["features"] = read_features(features.fetch)
    found: Features = features.kept["features"]
    return found


class TrainTask(Task):
    """Makes a model from features; subclass it for any other way of training than the built-in ones.

    A subclass sets `defaults` (its hyperparameters; their types are held) and writes `run_step`, which trains with
    `params`, writes a model file in a native format and returns `features.model_info(file, flavour)`. Everything
    around it is done here: the file is loaded again and scored on the validation part, and rows to probe it with are
    kept. `features_task` names another task to get features from.
    """

    family = "train"
    version = "1"
    defaults: ClassVar[Mapping[str, Value]] = {}
    features_task: ClassVar[type[Task]] = FeaturesTask

    @classmethod
    def check_point(cls, values: Mapping[str, Value]) -> None:
        """Raise UsageError for hyperparameters that this task does not have; one without `defaults` takes any."""
        for name in values:
            if cls.defaults and name not in cls.defaults:
                near = difflib.get_close_matches(name, cls.defaults, 1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(cls.defaults))}"
                raise UsageError(f"{cls.__name__} has no hyperparameter {name!r}", hint)

    def upstream(self) -> dict[str, Task]:
        """The features."""
        return {"features": self.sibling(self.features_task)}

    def parameters(self) -> dict[str, Value]:
        """The hyperparameters, the seed and the model's name."""
        return {**self.values, "seed": self.context.model.seed, "model": self.model}

    def execute(self, inputs: Inputs, output_folder: Path) -> StepResult:
        """Train, load what was saved, score the validation part with it."""
        told = super().execute(inputs, output_folder)
        if told.model is None:
            raise StepFailed(f"{type(self).__name__} returned no model", "return features.model_info(file, flavour)")
        file = output_folder / told.model.file
        if not file.is_file():
            raise StepFailed(f"{type(self).__name__} wrote no file {told.model.file!r}", "write it to output_folder")
        features = load_features(inputs["features"])
        matrix, answers = _validation(features, told.model, inputs["features"])
        scores = load_predictor(told.model, file).predict(matrix)
        metrics = {f"validation_{name}": value for name, value in compute_all(features.kind, answers, scores).items()}
        model = _with_probe(told.model, features, inputs["features"], scores)
        return msgspec.structs.replace(told, model=model, metrics={**metrics, **told.metrics})


def train_class(context: Context) -> type[TrainTask]:
    """The training task of a model: the one it names, else the built-in one of its flavour."""
    model = context.model
    path = model.task or BUILT_IN.get(model.flavour, "")
    if not path:
        raise ConfigError(
            f"there is no built-in training for the flavour {model.flavour!r}",
            f"name a task, or one of the flavours {', '.join(BUILT_IN)}",
        )
    found = find_task(path, context.project.folder)
    if not issubclass(found, TrainTask):
        raise ConfigError(f"task {path!r} is no training task", "subclass rdv.pipelines.task.TrainTask")
    return found


def check_round_trip(what: str, live: Matrix, loaded: Matrix) -> None:
    """Raise StepFailed when scores differ by more than rounding."""
    if live.shape != loaded.shape or not np.allclose(live, loaded, equal_nan=True, **ROUND_TRIP):
        raise StepFailed(f"{what} answers differently once it has been saved and loaded", "this is a bug: report it")


def _validation(
    features: Features, model: ModelInfo, artifact: Artifact
) -> tuple[Matrix, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    if model.inputs == features.inputs:
        part = features.part("validation")
        return part.matrix, part.answers
    rows = features.indices("validation")
    schema = features.about.schema
    matrix = compile_encoder(model.inputs, schema)(table_rows(schema, read_table(artifact.fetch), rows))
    return matrix, features.answers[rows]


def _with_probe(model: ModelInfo, features: Features, artifact: Artifact, scores: Matrix) -> ModelInfo:
    """The model with its first validation rows and scores; those that the task gave itself are compared."""
    schema = features.about.schema
    index = features.indices("validation")[:PROBE_ROWS]
    rows = to_probe_rows(model.inputs, schema, table_rows(schema, read_table(artifact.fetch), index), PROBE_ROWS)
    kept = tuple(tuple(row) for row in scores[: len(rows)].tolist())
    if model.probe_scores:
        live = np.array(model.probe_scores, dtype=np.float64)
        check_round_trip(model.file, live[: len(rows)], scores[: min(len(live), len(rows))])
    return msgspec.structs.replace(model, probe_rows=rows, probe_scores=kept)
