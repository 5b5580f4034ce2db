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
    from rdv.pipelines.schedules import Schedule, Schedules

NOT_SCHEDULED = ("dry_run", "detach", "wait", "date", "folder", "env", "sets")


def schedules(project: Project) -> Schedules:
    """The project's schedules."""
    from rdv.backends import select
    from rdv.pipelines.schedules import Schedules

    return Schedules(select.registry(project), project.state)


def check(project: Project, model: str, arguments: Sequence[str]) -> None:
    """Raise UsageError unless `rdv train MODEL ARGUMENTS` makes sense and can be run again and again."""
    from rdv.cli.train import train
    from rdv.cli.training import request
    from rdv.pipelines.runner import count_points

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
    asked = {
        name: given[name] for name in ("model", "settings", "trials", "seed", "granularity", "force", "max_parallel")
    }
    count_points(project, request(**asked))


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
