"""LightGBM on tabular features, without code of the user's: deterministic, one thread, text format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from rdv.errors import UsageError
from rdv.manifest import ModelInfo
from rdv.pipelines.base import Inputs
from rdv.pipelines.features import Features
from rdv.pipelines.names import Value
from rdv.pipelines.train import PROBE_ROWS, TrainTask, load_features

FILE = "model.txt"
_OBJECTIVE = {"probability": "binary", "labels": "multiclass", "number": "regression"}
_NUMBER_OBJECTIVES = (
    "regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie",
)  # fmt: skip
_MAIN = ("num_iterations", "learning_rate", "num_leaves")
_PLAIN_NAME = re.compile(r"\w+", re.ASCII)
ALIASES = {
    "n_estimators": "num_iterations", "num_trees": "num_iterations", "num_round": "num_iterations",
    "num_rounds": "num_iterations", "num_boost_round": "num_iterations", "n_iter": "num_iterations",
    "num_iteration": "num_iterations", "iterations": "num_iterations", "eta": "learning_rate",
    "shrinkage_rate": "learning_rate", "num_leaf": "num_leaves", "max_leaves": "num_leaves",
    "max_leaf": "num_leaves", "depth": "max_depth", "min_child_samples": "min_data_in_leaf",
    "min_data": "min_data_in_leaf", "min_data_per_leaf": "min_data_in_leaf",
    "min_child_weight": "min_sum_hessian_in_leaf", "subsample": "bagging_fraction", "bagging": "bagging_fraction",
    "subsample_freq": "bagging_freq", "colsample_bytree": "feature_fraction", "sub_feature": "feature_fraction",
    "reg_alpha": "lambda_l1", "l1_regularization": "lambda_l1", "reg_lambda": "lambda_l2", "lambda": "lambda_l2",
    "l2_regularization": "lambda_l2", "min_split_gain": "min_gain_to_split", "boosting_type": "boosting",
    "boost": "boosting", "max_bins": "max_bin", "app": "objective", "loss": "objective",
}  # fmt: skip


class LightGBMTask(TrainTask):
    """A LightGBM model of tabular features; `objective` may be changed for goals that answer a number."""

    version = "1"
    entry = "rdv.pipelines.entry_lightgbm:run"
    defaults: ClassVar[Mapping[str, Value]] = {
        "num_iterations": 100, "learning_rate": 0.1, "num_leaves": 31, "max_depth": -1, "min_data_in_leaf": 20,
        "min_sum_hessian_in_leaf": 1e-3, "bagging_fraction": 1.0, "bagging_freq": 0, "feature_fraction": 1.0,
        "feature_fraction_bynode": 1.0, "lambda_l1": 0.0, "lambda_l2": 0.0, "min_gain_to_split": 0.0,
        "max_bin": 255, "max_delta_step": 0.0, "path_smooth": 0.0, "extra_trees": False, "boosting": "gbdt",
        "drop_rate": 0.1, "max_drop": 50, "skip_drop": 0.5, "top_rate": 0.2, "other_rate": 0.1,
        "cat_smooth": 10.0, "cat_l2": 10.0, "max_cat_threshold": 32, "max_cat_to_onehot": 4,
        "min_data_per_group": 100, "scale_pos_weight": 1.0, "is_unbalance": False, "boost_from_average": True,
        "linear_tree": False, "objective": "default", "alpha": 0.9, "tweedie_variance_power": 1.5,
    }  # fmt: skip

    @classmethod
    def check_point(cls, values: Mapping[str, Value]) -> None:
        """Raise UsageError for what LightGBM does not know, and for its second names, which would double artifacts."""
        for name in values:
            if name in ALIASES:
                raise UsageError(f"{name} is LightGBM's other name for {ALIASES[name]}", f"say {ALIASES[name]}")
        super().check_point(values)

    def shown(self) -> tuple[str, ...]:
        """The main hyperparameters, and those that differ from LightGBM's defaults."""
        return tuple(name for name, value in self.values.items() if name in _MAIN or value != self.defaults.get(name))

    def run_step(self, inputs: Inputs, output_folder: Path, params: Mapping[str, Value]) -> ModelInfo:
        """Train and save; the probe scores are the ones of the model in memory."""
        import lightgbm

        features = load_features(inputs["features"])
        train = features.part("train")
        settings = library_settings(features, params)
        data = lightgbm.Dataset(
            train.matrix,
            train.answers,
            feature_name=_feature_names(features),
            categorical_feature=list(features.inputs.categorical()),
            params=settings,
        )
        booster = lightgbm.train(settings, data, num_boost_round=settings.pop("num_iterations"))
        booster.save_model(output_folder / FILE, num_iteration=-1)
        probe = features.part("validation").matrix[:PROBE_ROWS]
        live = np.asarray(booster.predict(probe, num_threads=1), dtype=np.float64).reshape(len(probe), -1)
        return msgspec.structs.replace(
            features.model_info(FILE, "lightgbm"), probe_scores=tuple(tuple(row) for row in live.tolist())
        )


def library_settings(features: Features, params: Mapping[str, Value]) -> dict[str, Any]:
    """LightGBM's own parameters for some hyperparameters; UsageError for an objective that does not fit the goal."""
    settings: dict[str, Any] = {name: params[name] for name in LightGBMTask.defaults if params.get(name) is not None}
    chosen = settings.pop("objective", "default")
    if chosen == "default":
        chosen = _OBJECTIVE[features.kind]
    elif features.kind != "number" or chosen not in _NUMBER_OBJECTIVES:
        raise UsageError(
            f"objective {chosen!r} does not fit a model that answers a {features.kind}",
            f"leave it out, or for numbers say one of {', '.join(_NUMBER_OBJECTIVES)}",
        )
    settings |= {
        "objective": chosen, "seed": params["seed"], "deterministic": True, "force_row_wise": True, "num_threads": 1,
        "verbosity": -1, "feature_pre_filter": False,
    }  # fmt: skip
    if features.kind == "labels":
        settings["num_class"] = len(features.labels)
    return settings


def _feature_names(features: Features) -> list[str]:
    """The inputs' names; LightGBM takes plain ones only, else every name is its own placeholder."""
    names = list(features.inputs.names())
    return names if all(_PLAIN_NAME.fullmatch(name) for name in names) else [f"Column_{at}" for at in range(len(names))]
