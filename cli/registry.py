"""`rdv registry rebuild`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup

if TYPE_CHECKING:
    from rdv.config import Project


@click.group(cls=HintingGroup)
def registry() -> None:
    """Restore the registry after a loss."""


@registry.command()
@options.yes
@options.project
@options.output
def rebuild(yes: bool, project: Project, form: str) -> int:
    """Show what the registry lacks and the artifact store knows, and restore it with --yes.

    Versions come back whose artifacts are there, releases from the log that each deploy leaves in the artifact store,
    pointers from the last release. What is in the registry is never changed: exit code 7 when it differs. Without
    --yes the exit code is 2 when there is something to do.

    Schedules and policies do not come back: put them again. Until then Nomad, which holds each schedule as a job of its
    own, goes on beginning trainings, of which no history is kept, and gateways go on with the policy of rdv.toml.
    """
    from rdv.cli import rebuilding

    found = rebuilding.plan(project)
    done = rebuilding.carry_out(project, found) if yes else None
    output.rows(rebuilding.records(found), ["model", "key", "what", "why"], form, empty="registry and log agree")
    return rebuilding.verdict(found, done)
