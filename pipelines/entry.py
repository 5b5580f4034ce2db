"""The entry of steps: `rdv.pipelines.entry:run`. Importing it imports every built-in task, for a fork server once."""

from __future__ import annotations

from rdv.pipelines import dataset, evaluate, rescore, tabular_catboost, tabular_lightgbm, validate
from rdv.pipelines.step import run

__all__ = ["dataset", "evaluate", "rescore", "run", "tabular_catboost", "tabular_lightgbm", "validate"]
