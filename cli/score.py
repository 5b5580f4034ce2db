"""`rdv score MODEL --input FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options
from rdv.cli.models import VERSION_WORDS

if TYPE_CHECKING:
    from rdv.config import Project


@click.command(epilog=VERSION_WORDS)
@click.argument("model", type=options.MODEL)
@click.option(
    "--input", "file", type=click.Path(path_type=Path), required=True, help="CSV with a header, or JSON lines."
)
@click.option("--version", default="", help="Which version. [the one that is served, or else the newest]")
@click.option("-o", "--output", "form", type=click.Choice(["csv", "jsonl"]), default="csv", help="How to print. [csv]")
@options.project
def score(model: str, file: Path, version: str, form: str, project: Project) -> None:
    """Score a file of rows with a version of MODEL.

    Each row is taken as the gateway takes a request and gets the same answer, to the last digit; a row that the
    gateway would refuse is printed with the reason, and ends the command with exit code 3.
    """
    from rdv.cli import scoring

    scoring.print_scores(project, model, file, version, form)
