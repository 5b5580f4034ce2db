"""The names of a model's artifacts as far as its tasks alone make them, printed by a process of its own.

`python -m rdv.pipelines.partial_names FOLDER MODEL` prints them as JSON. Two such processes agree, or nothing that the
model's tasks make would ever be found again: a name may hold neither a time, nor a random number, nor a set's order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rdv.backends import select
from rdv.config import Project
from rdv.pipelines.evaluate import EvaluateTask
from rdv.pipelines.names import artifact_name, parameters_text
from rdv.pipelines.naming import Catalog, Naming
from rdv.pipelines.task_jobs import tasks_of
from rdv.pipelines.train import TrainTask
from rdv.pipelines.validate import ValidateTask
from rdv.settings import load_project


def partial_names(project: Project, model: str) -> list[str]:
    """The name of each task's artifact while nothing that it reads is there, with rdv.toml's hyperparameters."""
    naming = Naming(Catalog(select.artifacts(project)), project.folder)
    found = []
    for task, _ in tasks_of(project, model):
        if isinstance(task, EvaluateTask | ValidateTask):
            continue  # ours, and named by what they judge
        if isinstance(task, TrainTask):
            task = task.at(parameters_text({**task.defaults, **project.config.models[model].params}))
        found.append(artifact_name(naming.partial_key(task)))
    return found


if __name__ == "__main__":
    print(json.dumps(partial_names(load_project(Path(sys.argv[1])), sys.argv[2])))
