"""`rdv train MODEL`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rdv.cli import options

if TYPE_CHECKING:
    from rdv.config import Project


@click.command()
@click.argument("model", type=options.MODEL)
@click.option("-P", "settings", metavar="NAME=VALUES", multiple=True, help="A hyperparameter: 31 or 15,31 or 3..6.")
@click.option("--trials", type=click.IntRange(min=0), default=0, help="Draw so many points instead of the whole grid.")
@click.option("--seed", type=int, default=0, help="What the drawing of --trials begins with.")
@click.option("--date", default="", help="The day, week or hour that the run is for, UTC; now unless told.")
@click.option("--granularity", type=click.Choice(["", "week", "day", "3h", "1h"]), default="", help="[rdv.toml's]")
@click.option("--dry-run", is_flag=True, help="Show what would be made, and why; make nothing.")
@click.option("--force", is_flag=True, help="Make it again, beside what is there.")
@click.option("--max-parallel", type=click.IntRange(min=0), default=0, help="Steps at a time. [rdv.toml's]")
@click.option("--detach", is_flag=True, help="Leave the run going on by itself, and return.")
@click.option("--wait", is_flag=True, help="As --detach, and wait; Ctrl-C then ends the waiting only.")
@click.option("--on-cluster", is_flag=True, help="Run the pipeline itself as a job there too; Ctrl-C ends the waiting.")
@options.yes
@options.project
@options.output
def train(
    dry_run: bool, detach: bool, wait: bool, on_cluster: bool, yes: bool, project: Project, form: str,
    settings: tuple[str, ...], **asked: Any,
) -> None:  # fmt: skip
    """Train MODEL over a grid, validate, and publish the best version.

    What is done already is not done again. `rdv help grids` says what -P takes.
    """
    from rdv.cli import training

    request = training.request(settings=settings, **asked)
    if dry_run:
        return training.show_plan(project, request, form)
    training.ask_if_large(project, request, yes)
    if on_cluster:
        return training.on_cluster(project, request, detach, form)
    if detach or wait:
        return training.detached(project, request, wait, form)
    training.show_end(training.carry_out(project, request), form)
