"""How the serving commands run: all roles as children of this process, or one of them in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rdv.cli import output
from rdv.cli.children import rdv_argv
from rdv.errors import UsageError

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.serving.processes.records import RoleRecord

SCHEDULES = "schedules"


def run_all(project: Project, with_schedules: bool = False) -> int:
    """Serve a project until a signal, with a process for its schedules when asked; the exit code."""
    from rdv.cli.scheduling import is_of_cluster
    from rdv.serving.processes.specs import ExtraRole
    from rdv.serving.processes.supervisor import serve

    schedules = ExtraRole(SCHEDULES, tuple(rdv_argv(["serve", SCHEDULES, "--env", project.env], project.folder)))
    ours = with_schedules and not is_of_cluster(project)
    serve(project, [schedules] if ours else [], said_ready(project))
    return 0


def said_ready(project: Project) -> Callable[[RoleRecord], None]:
    """A function that says where the gateway of a record answers, and to what."""

    def say(record: RoleRecord) -> None:
        for goal in project.config.goals:
            output.note(f"serving: POST {record.details['url']}/v1/goals/{goal}/score")

    return say


def run(project: Project, role: str, model: str, replica: str) -> int:
    """Run one role in this process until a signal; the exit code."""
    if (role == "worker") != bool(model):
        raise UsageError(
            f"`rdv serve {role}` takes {'a' if role == 'worker' else 'no'} MODEL", "see `rdv serve --help`"
        )
    if role == SCHEDULES:
        return run_schedules(project)
    from rdv.serving.roles import run_role

    run_role(project, role, model, replica)
    return 0


def run_schedules(project: Project) -> int:
    """Train models at the moments of their schedules until a signal."""
    from rdv.backends import select
    from rdv.cli.scheduling import is_of_cluster, train_command
    from rdv.pipelines.schedules.records import Schedules
    from rdv.pipelines.schedules.runner import run_schedules

    if is_of_cluster(project):
        raise UsageError(f"the cluster of environment {project.env} runs its schedules", "see `rdv schedule list`")
    reason = run_schedules(
        Schedules(select.registry(project), project.state),
        lambda schedule: train_command(project, schedule.model, schedule.arguments),
        project.folder,
        lambda text: output.note(f"schedules: {text}"),
    )
    output.note(f"schedules: {reason}")
    return 0
