"""Which task classes a project's models have, as jobs that run one by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rdv.backends.ports import Registry, TaskClass
from rdv.config import Project
from rdv.pipelines.base import Context, Task, class_path
from rdv.pipelines.evaluate import EvaluateTask
from rdv.pipelines.memory import Peaks
from rdv.pipelines.periods import period_of
from rdv.pipelines.train import train_class
from rdv.pipelines.validate import ValidateTask


def task_classes(project: Project, registry: Registry) -> list[TaskClass]:
    """Every task class of every model, each with the memory that its steps have needed before.

    Raises ConfigError for a model whose task cannot be imported.
    """
    peaks, found = Peaks(registry), []
    for model in sorted(project.config.models):
        taken: set[str] = set()
        for task, reads in tasks_of(project, model):
            kind = type(task)
            family = task.family if task.family not in taken else f"{task.family}-{kind.__name__}"
            taken.add(family)
            memory_mb = peaks.choose(f"{task.family}/{task.scope}", project.config.train.memory_mb)
            found.append(
                TaskClass(
                    project=project.config.project, env=project.env, model=model, task=class_path(kind), family=family,
                    memory_mb=memory_mb, reads=reads,
                )
            )  # fmt: skip
    return found


def tasks_of(project: Project, model: str) -> Iterator[tuple[Task, tuple[str, ...]]]:
    """The tasks of a model with the roles of what they read: the training and what it needs, then what judges it."""
    context = Context(project, model)
    period = period_of(datetime.now(UTC), project.config.train.granularity).text()
    train: Task = train_class(context)(context=context, model=model, period=period, point="")
    todo: list[Task] = [train]
    seen: set[type[Task]] = set()
    while todo:
        task = todo.pop(0)
        if type(task) in seen:
            continue
        seen.add(type(task))
        upstream = task.upstream()
        todo += upstream.values()
        yield task, tuple(upstream)
    judged = ("model", *train.upstream())
    yield train.sibling(EvaluateTask), judged
    yield train.sibling(ValidateTask), (*judged, "report", "champion")
