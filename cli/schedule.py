"""`rdv schedule MODEL --cron ...` and what is done with a schedule later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import DefaultGroup

if TYPE_CHECKING:
    from rdv.config import Project

COLUMNS = ["model", "cron", "state", "next", "arguments", "last"]


class ScheduleGroup(DefaultGroup):
    """`rdv schedule MODEL --cron ...` is `rdv schedule add MODEL --cron ...`."""

    default = "add"


@click.group(cls=ScheduleGroup, subcommand_metavar="[MODEL --cron EXPRESSION] | COMMAND [ARGS]...")
def schedule() -> None:
    """Train MODEL again and again; run by `rdv up`.

    Times are UTC. On a cluster its own clock runs it. A training that still runs at its next moment is not started
    twice. A model whose rdv.toml says publish = "deploy" is served as soon as it has passed validation.
    """


@schedule.command(context_settings={"ignore_unknown_options": True})
@click.argument("model", type=options.MODEL)
@click.option("--cron", required=True, help='Five fields, such as "0 */3 * * *".')
@click.argument("arguments", metavar="[TRAIN OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
@options.project
@options.output
def add(model: str, cron: str, arguments: tuple[str, ...], project: Project, form: str) -> None:
    """Train MODEL at every moment of --cron, with the options of `rdv train` that follow."""
    from rdv.cli import scheduling

    scheduling.check(project, model, arguments)
    made = scheduling.schedules(project).put(model, cron, arguments)
    output.document(scheduling.record(made), form)
    if not scheduling.is_of_cluster(project):
        output.note("`rdv up` serves and runs the schedules")


@schedule.command("list")
@options.project
@options.output
def list_(project: Project, form: str) -> None:
    """List schedules with their next moments."""
    from rdv.cli import scheduling

    found = [scheduling.record(one) for one in scheduling.schedules(project).all()]
    output.rows(found, COLUMNS, form, empty='no schedule yet; `rdv schedule MODEL --cron "0 */3 * * *"` makes one')


@schedule.command()
@click.argument("model", type=options.MODEL)
@options.project
def run(model: str, project: Project) -> int:
    """Train MODEL now as its schedule would; ends with the training's exit code, 8 when one runs already."""
    from rdv.cli import scheduling

    return scheduling.run_now(project, model)


@schedule.command()
@click.argument("model", type=options.MODEL)
@options.project
@options.output
def pause(model: str, project: Project, form: str) -> None:
    """Train MODEL no more until resumed; what runs goes on."""
    from rdv.cli import scheduling

    output.document(scheduling.record(scheduling.schedules(project).pause(model)), form)


@schedule.command()
@click.argument("model", type=options.MODEL)
@options.project
@options.output
def resume(model: str, project: Project, form: str) -> None:
    """Train MODEL again from its next moment on."""
    from rdv.cli import scheduling

    output.document(scheduling.record(scheduling.schedules(project).resume(model)), form)


@schedule.command()
@click.argument("model", type=options.MODEL)
@options.yes
@options.project
def remove(model: str, yes: bool, project: Project) -> None:
    """Forget the schedule of MODEL and its history; what runs goes on."""
    from rdv.cli import scheduling

    found = scheduling.schedules(project).get(model)
    options.confirm(f"Forget the schedule {found.cron!r} of {model}?", yes)
    scheduling.schedules(project).remove(model)
    output.note(f"{model} has no schedule any more")


@schedule.command()
@click.argument("model", type=options.MODEL)
@options.project
@options.output
def history(model: str, project: Project, form: str) -> None:
    """Show what came of the moments of MODEL's schedule, newest first."""
    from rdv.cli import scheduling

    found = [output.finite(one) for one in reversed(scheduling.schedules(project).get(model).history)]
    columns = ["due", "status", "started", "ended", "exit_code", "count", "reason"]
    output.rows(found, columns, form, empty="it has not come to a moment yet")
