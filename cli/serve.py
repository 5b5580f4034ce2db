"""`rdv serve [ROLE]` and `rdv up`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options

if TYPE_CHECKING:
    from rdv.config import Project

ROLES = ("gateway", "worker", "decoy", "schedules")


@click.command()
@click.argument("role", type=click.Choice(ROLES), required=False)
@click.argument("model", type=options.MODEL, default="")
@click.option("--replica", default="", help="The name of a role's process among its like; a random one unless given.")
@options.project
def serve(role: str | None, model: str, replica: str, project: Project) -> int:
    """Serve every goal on this machine, or run one role of it.

    In the foreground. Without ROLE: a gateway, a worker for every replica of every model, and a decoy, each a process
    that is started again when it dies or hangs. ROLE worker takes MODEL. The first SIGTERM or Ctrl-C stops cleanly:
    no more requests are taken in, those in flight are answered. The second stops hard.
    """
    from rdv.cli import serving

    return serving.run(project, role, model, replica) if role else serving.run_all(project)


@click.command()
@options.project
def up(project: Project) -> int:
    """Serve, and run the schedules.

    As `rdv serve`, with one more process that trains models at the moments of their schedules.
    """
    from rdv.cli import serving

    return serving.run_all(project, with_schedules=True)
