"""CatBoost on tabular features, without code of the user's: deterministic, one thread, cbm format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from rdv.errors import ConfigError, UsageError
from rdv.flavours_catboost import catboost_frame
from rdv.manifest import ModelInfo
from rdv.pipelines.base import Inputs
from rdv.pipelines.features import Features
from rdv.pipelines.names import Value
from rdv.pipelines.train import PROBE_ROWS, TrainTask, load_features

FILE = "model.cbm"
_LOSS = {"probability": "Logloss", "labels": "MultiClass", "number": "RMSE"}
_NUMBER_LOSSES = ("RMSE", "MAE", "MAPE", "Poisson", "Quantile", "LogLinQuantile")
_PREDICTION = {"probability": "Probability", "labels": "Probability", "number": "RawFormulaVal"}
_MAIN = ("iterations", "learning_rate", "depth")
ALIASES = {
    "n_estimators": "iterations", "num_boost_round": "iterations", "num_trees": "iterations",
    "num_iterations": "iterations", "eta": "learning_rate", "max_depth": "depth", "reg_lambda": "l2_leaf_reg",
    "colsample_bylevel": "rsm", "max_bin": "border_count", "min_child_samples": "min_data_in_leaf",
    "num_leaves": "max_leaves", "objective": "loss_function",
}  # fmt: skip
# What CatBoost writes into a file beside the model: when it was made, and a random id.
_MOMENT = ("model_guid", "train_finish_time")


class CatBoostTask(TrainTask):
    """A CatBoost model of tabular features; `loss_function` may be changed for goals that answer a number."""

    version = "1"
    entry = "rdv.pipelines.entry_catboost:run"
    defaults: ClassVar[Mapping[str, Value]] = {
        "iterations": 200, "learning_rate": 0.1, "depth": 6, "l2_leaf_reg": 3.0, "random_strength": 1.0, "rsm": 1.0,
        "border_count": 254, "grow_policy": "SymmetricTree", "min_data_in_leaf": 1, "max_leaves": 31,
        "bagging_temperature": 1.0, "bootstrap_type": "Bayesian", "subsample": 1.0, "one_hot_max_size": 2,
        "scale_pos_weight": 1.0, "leaf_estimation_iterations": 1, "loss_function": "default",
    }  # fmt: skip

    @classmethod
    def check_point(cls, values: Mapping[str, Value]) -> None:
        """Raise UsageError for what CatBoost does not know, and for its second names, which would double artifacts."""
        for name in values:
            if name in ALIASES:
                raise UsageError(f"{name} is CatBoost's other name for {ALIASES[name]}", f"say {ALIASES[name]}")
        super().check_point(values)

    def shown(self) -> tuple[str, ...]:
        """The main hyperparameters, and those that differ from the defaults."""
        return tuple(name for name, value in self.values.items() if name in _MAIN or value != self.defaults.get(name))

    def run_step(self, inputs: Inputs, output_folder: Path, params: Mapping[str, Value]) -> ModelInfo:
        """Train and save; the probe scores are the ones of the model in memory."""
        try:
            import catboost
        except ImportError:
            raise ConfigError("training with CatBoost needs catboost", "type: pip install 'rdv[catboost]'") from None
        features = load_features(inputs["features"])
        train = features.part("train")
        categorical = list(features.inputs.categorical())
        answers = train.answers if features.kind == "number" else train.answers.astype(np.int64)
        pool = catboost.Pool(
            catboost_frame(train.matrix, categorical),
            answers,
            cat_features=categorical or None,
            feature_names=list(features.inputs.names()),
        )
        model = catboost.CatBoost(library_settings(features, params))
        model.fit(pool)
        for name in _MOMENT:
            model.get_metadata()[name] = ""
        model.save_model(str(output_folder / FILE), format="cbm")
        return msgspec.structs.replace(
            features.model_info(FILE, "catboost"), probe_scores=_live_scores(model, features, categorical)
        )


def library_settings(features: Features, params: Mapping[str, Value]) -> dict[str, Any]:
    """CatBoost's own parameters for some hyperparameters; UsageError for a loss that does not fit the goal."""
    settings: dict[str, Any] = {name: params[name] for name in CatBoostTask.defaults if params.get(name) is not None}
    chosen = settings.pop("loss_function", "default")
    if chosen == "default":
        chosen = _LOSS[features.kind]
    elif features.kind != "number" or str(chosen).partition(":")[0] not in _NUMBER_LOSSES:
        raise UsageError(
            f"loss_function {chosen!r} does not fit a model that answers a {features.kind}",
            f"leave it out, or for numbers say one of {', '.join(_NUMBER_LOSSES)}",
        )
    for name, needed, values in (
        ("bagging_temperature", "bootstrap_type", ("Bayesian",)),
        ("subsample", "bootstrap_type", ("Bernoulli", "MVS", "Poisson")),
        ("min_data_in_leaf", "grow_policy", ("Depthwise", "Lossguide")),
        ("max_leaves", "grow_policy", ("Lossguide",)),
    ):
        if settings.get(needed) not in values:
            settings.pop(name, None)
    if features.kind != "probability":
        settings.pop("scale_pos_weight", None)
    return settings | {
        "loss_function": chosen, "random_seed": params["seed"], "thread_count": 1, "verbose": False,
        "allow_writing_files": False,
    }  # fmt: skip


def _live_scores(model: Any, features: Features, categorical: list[int]) -> tuple[tuple[float, ...], ...]:
    probe = features.part("validation").matrix[:PROBE_ROWS]
    frame = catboost_frame(probe, categorical)
    scores = np.asarray(model.predict(frame, prediction_type=_PREDICTION[features.kind], thread_count=1))
    scores = scores.astype(np.float64).reshape(len(probe), -1)
    if features.kind == "probability":
        scores = scores[:, 1:]
    return tuple(tuple(row) for row in scores.tolist())
