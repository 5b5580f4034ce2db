"""`rdv jobs`: what may be dispatched on the cluster of an environment, by training runs and by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup
from rdv.errors import Exit

if TYPE_CHECKING:
    from rdv.config import Project

CHANGES = ["job", "namespace", "change", "about", "differs"]
JOBS = ["job", "namespace", "kind", "memory_mb", "pending", "running", "dead", "about"]
REAPED = ["job", "namespace", "run", "reason"]


@click.group(cls=HintingGroup)
def jobs() -> None:
    """Register, list and end what a cluster runs for rdv.

    A training run dispatches its steps as children of these jobs. Each task class can be dispatched by hand as well:
    `nomad job dispatch -meta input=ROLE=ARTIFACT,... -meta output=NAME JOB parameters.json`.
    """


@jobs.command()
@click.option("--plan", "plan_only", is_flag=True, help="Only tell what would change; exit code 2 if anything.")
@options.project
@options.output
def register(plan_only: bool, project: Project, form: str) -> int:
    """Register a job for each size of step, for each task class of the project's models, and for pipelines.

    A job that somebody else changes at the same moment is left as it is, with exit code 8.
    """
    from rdv.backends import select
    from rdv.pipelines.task_jobs import task_classes

    tasks = task_classes(project, select.registry(project))
    changes = select.jobs(project).register(project.config.train.memory_mb, tasks, plan_only)
    output.rows([output.finite(one) for one in changes], CHANGES, form)
    return Exit.CHANGES if plan_only and any(one.change != "unchanged" for one in changes) else Exit.OK


@jobs.command("list")
@options.project
@options.output
def list_(project: Project, form: str) -> None:
    """List the registered jobs with how many of their dispatches wait, run and have ended."""
    from rdv.backends import select

    found = [output.finite(one) for one in select.jobs(project).list()]
    output.rows(found, JOBS, form, empty=f"no job yet; `rdv jobs register --env {project.env}` makes them")


@jobs.command()
@click.option(
    "--older-than", "days", type=float, default=30.0, show_default=True, help="Keep what is younger, in days."
)
@options.yes
@options.project
@options.output
def prune(days: float, yes: bool, project: Project, form: str) -> None:
    """Show jobs that nobody needs any more, those of old images among them, and forget them with --yes.

    Those are jobs of steps and of this project's task classes that `rdv jobs register` would not make now, of which
    nothing waits or runs. One that is needed after all is registered again by the next step.
    """
    from rdv.backends import select
    from rdv.pipelines.task_jobs import task_classes

    tasks = task_classes(project, select.registry(project))
    found = select.jobs(project).prune(project.config.train.memory_mb, tasks, days * 86_400, plan_only=not yes)
    output.rows([output.finite(one) for one in found], JOBS, form, empty="no job is left over")
    if found:
        output.note(f"{len(found)} forgotten" if yes else "nothing was forgotten; add --yes to forget these")


@jobs.command()
@options.project
@options.output
def reap(project: Project, form: str) -> None:
    """End steps that nobody waits for any more, and those that do not end by themselves."""
    from rdv.backends import select
    from rdv.pipelines.runs.leftovers import Leftovers

    found = Leftovers(project, select.registry(project)).reap()
    output.rows([output.finite(one) for one in found], REAPED, form, empty="nothing was to be ended")
