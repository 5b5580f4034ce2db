"""What to subclass for a pipeline of one's own.

A model names its training task in rdv.toml, `task = "pipeline:Stumps"`, and `pipeline.py` beside it says

    class Stumps(TrainTask):
        defaults = {"rounds": 50, "learning_rate": 0.1}

        def run_step(self, inputs, output_folder, params):
            features = load_features(inputs["features"])
            train = features.part("train")
            ...train with train.matrix, train.answers and params["rounds"]...
            booster.save_model(output_folder / "model.txt")
            return features.model_info(file="model.txt", flavour="lightgbm")

Data from elsewhere than a file: subclass `DatasetTask`, name it in a subclass of `FeaturesTask` as `dataset_task`,
and that one in the training task as `features_task`.
"""

from __future__ import annotations

from rdv.pipelines.base import Artifact, Inputs, StepResult, Task
from rdv.pipelines.dataset import DatasetTask, FeaturesTask, FileDatasetTask
from rdv.pipelines.features import Features, Part
from rdv.pipelines.train import TrainTask, load_features

__all__ = [
    "Artifact",
    "DatasetTask",
    "Features",
    "FeaturesTask",
    "FileDatasetTask",
    "Inputs",
    "Part",
    "StepResult",
    "Task",
    "TrainTask",
    "load_features",
]
