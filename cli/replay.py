"""`rdv replay MODEL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.models import VERSION_WORDS

if TYPE_CHECKING:
    from rdv.config import Project


@click.command(epilog=VERSION_WORDS)
@click.argument("model", type=options.MODEL)
@click.option("--version", default="", help="Which version. [the newest]")
@click.option("--against", type=options.MODEL, default="", help="Whose recorded scores to compare with. [the champion]")
@click.option("--last", type=click.IntRange(min=1), default=100_000, show_default=True, help="Requests, about.")
@options.project
@options.output
def replay(model: str, version: str, against: str, last: int, project: Project, form: str) -> None:
    """Feed the recorded requests of a goal to a version of MODEL.

    Its scores stand beside what was said then. It reads the decoy's journal, in a process of its own; live traffic is
    not touched. Agreement is the share of requests on which both say the same, p01 to p99 are quantiles of the scores
    side by side.
    """
    from rdv.cli import replaying

    found = replaying.run(project, model, version, against, last)
    if form in ("json", "jsonl"):
        return output.document(output.finite(found), form)
    output.document(replaying.summary(found), form)
    for column in found.comparison.columns:
        output.section(f"scores side by side: {column.name}", replaying.quantiles(found, column), replaying.SIDES, form)
