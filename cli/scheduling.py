"""Schedules as the command line sees them: checked before they are made, shown with their next moments, run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rdv.cli.children import rdv_argv
from rdv.cli.options import require_model
from rdv.errors import UsageError

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.pipelines.cluster_schedules import ClusterSchedules
    from rdv.pipelines.runs.runner import TrainRequest
    from rdv.pipelines.schedules.records import Schedule, Schedules

NOT_SCHEDULED = ("dry_run", "detach", "wait", "on_cluster", "date", "folder", "env", "sets")


def schedules(project: Project) -> Schedules | ClusterSchedules:
    """The schedules of the project's environment: its cluster's affair where it has one, else that of `rdv up`."""
    from rdv.backends import select
    from rdv.pipelines.cluster_schedules import ClusterSchedules
    from rdv.pipelines.schedules.records import Schedules

    if is_of_cluster(project):
        return ClusterSchedules(project, lambda model, arguments: parsed(project, model, arguments))
    return Schedules(select.registry(project), project.state)


def is_of_cluster(project: Project) -> bool:
    """Whether the environment's cluster begins the scheduled trainings, not `rdv up`."""
    from rdv.backends import select

    return select.is_remote(project, "cluster") and select.is_remote(project, "registry")


def run_now(project: Project, model: str) -> int:
    """Train a model now as its schedule would, and wait for it; the training's exit code."""
    from rdv.cli.training import ended_badly, ended_run
    from rdv.pipelines.cluster_schedules import ClusterSchedules

    found = schedules(project)
    if isinstance(found, ClusterSchedules):
        record = ended_run(project, found.begin_now(model).run)
        if record.exit_code:
            raise ended_badly(record)
        return 0
    ended = found.run_now(model, command(project, model), project.folder)
    return 1 if ended.exit_code is None else ended.exit_code


def check(project: Project, model: str, arguments: Sequence[str]) -> None:
    """Raise UsageError unless `rdv train MODEL ARGUMENTS` makes sense and can be run again and again."""
    from rdv.pipelines.runs.runner import count_points

    count_points(project, parsed(project, model, arguments))


def parsed(project: Project, model: str, arguments: Sequence[str]) -> TrainRequest:
    """What `rdv train MODEL ARGUMENTS` asks for; UsageError when it makes no sense in a schedule."""
    from rdv.cli.train import train
    from rdv.cli.training import request

    require_model(project, model)
    try:
        given = train.make_context("rdv train", [model, *arguments]).params
    except click.ClickException as error:
        raise UsageError(
            f"rdv train {model} {shlex.join(arguments)}: {error.format_message()}", "see `rdv train --help`"
        ) from None
    for name in NOT_SCHEDULED:
        if given[name]:
            raise UsageError(f"--{name.replace('_', '-')} makes no sense in a schedule", "leave it out")
    names = ("model", "settings", "trials", "seed", "granularity", "force", "max_parallel")
    return request(**{name: given[name] for name in names})


def command(project: Project, model: str) -> list[str]:
    """The train command that a model's schedule runs, as this interpreter would run it."""
    found = schedules(project).get(model)
    return train_command(project, model, found.arguments)


def train_command(project: Project, model: str, arguments: Sequence[str]) -> list[str]:
    """argv of `rdv train` for a project and its environment; nobody is there to be asked."""
    return rdv_argv(["train", model, *arguments, "--env", project.env, "--yes"], project.folder)


def record(schedule: Schedule) -> dict[str, Any]:
    """A schedule as one line of a table."""
    running = schedule.running()
    upcoming = schedule.upcoming(datetime.now(UTC))
    return {
        "model": schedule.model,
        "cron": schedule.cron,
        "state": "paused" if schedule.paused else "running" if running else "waiting",
        "next": [moment.strftime("%Y-%m-%d %H:%M") for moment in upcoming],
        "arguments": shlex.join(schedule.arguments),
        "last": str(schedule.history[-1].status) if schedule.history else "",
    }
