"""`rdv report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output

if TYPE_CHECKING:
    from rdv.cli.report.page import Mark, Sheet
    from rdv.config import Project

RELEASES = "Every move of a model's pointer: what was deployed or rolled back, when, and by whom."


@click.command()
@click.argument("goal", type=options.GOAL, default="")
@click.option("--to", "file", type=click.Path(path_type=Path), help="Where to write it. [report-GOAL.html]")
@click.option("--markdown", "as_markdown", is_flag=True, help="For a merge request: what the newest versions change.")
@click.option("--last", type=click.IntRange(min=1), default=200_000, show_default=True, help="Requests, at most.")
@options.project
@options.output
def report(goal: str, file: Path | None, as_markdown: bool, last: int, project: Project, form: str) -> None:
    """Write one self-contained HTML page about what was served.

    About GOAL, which need not be named when there is one: ledger, who answered when, latency and agreement of the
    models, releases. It needs no network to be read, and serving need not run for it to be written. With --markdown
    the newest version of every model against the one that is served: metrics, what changed, agreement, latency; it is
    printed unless --to names a file.
    """
    from rdv.cli.recorded import one_goal

    if as_markdown:
        return write_markdown(project, file)
    goal = one_goal(project, goal)
    path = file or Path(f"report-{goal}.html")
    requests = write_report(project, goal, path, last)
    output.document({"goal": goal, "requests": requests, "file": str(path)}, form)


def write_markdown(project: Project, file: Path | None) -> None:
    """Write the report of a merge request to a file, or print it."""
    from rdv.cli.report.markdown import markdown

    text = markdown(project)
    if file is None:
        return click.echo(text, nl=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def write_report(
    project: Project,
    goal: str,
    file: Path,
    last: int,
    marks: Sequence[Mark] = (),
    sheets: Sequence[Sheet] = (),
    ledger: Sequence[Mapping[str, object]] = (),
) -> int:
    """Write the page about a goal's recorded requests and return how many there are.

    marks, sheets: shown as well. ledger: instead of the one that the running gateways and the journals give.
    """
    from rdv.cli import recorded
    from rdv.cli.report.facts import facts
    from rdv.cli.report.page import Sheet, page
    from rdv.files import replace_file

    settings = project.config.goals[goal]
    found = facts(goal, settings.answer, recorded.events(project, goal, last))
    releases = recorded.release_sheet(project, [model.model for model in found.models])
    html = page(
        found,
        settings.budget_ms,
        ledger or recorded.ledger(project, goal),
        [*release_marks(project, goal), *marks],
        [*sheets, Sheet("Releases", RELEASES, releases)],
    )
    replace_file(file, html.encode())
    return found.requests


def release_marks(project: Project, goal: str) -> list[Mark]:
    """A mark for every release of one of the goal's models whose moment is known."""
    from rdv.cli import recorded
    from rdv.cli.report.page import Mark

    models = [name for name, model in project.config.models.items() if model.goal == goal]
    return [
        Mark(datetime.fromisoformat(one["at"]).timestamp(), f"{one['kind']} of {one['model']} to {one['version']}")
        for one in recorded.release_sheet(project, models)
        if one["at"]
    ]
