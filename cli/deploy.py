"""`rdv deploy MODEL` and `rdv rollback MODEL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.models import VERSION_WORDS

if TYPE_CHECKING:
    from rdv.config import Project

TIMEOUT = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="Seconds to wait for all workers; 0: do not wait.",
)  # fmt: skip


@click.command(epilog=VERSION_WORDS)
@click.argument("model", type=options.MODEL)
@click.option("--version", default="newest", show_default=True, help="Which version.")
@TIMEOUT
@options.project
@options.output
def deploy(model: str, version: str, timeout_s: float, project: Project, form: str) -> None:
    """Make a version of MODEL the one that is served.

    It waits until every worker says that it serves it. Workers load it beside the one that answers, try it, and swap;
    no request is lost. Exit code 7 when a worker cannot serve it, 6 when it takes too long; `rdv rollback` takes it
    back.
    """
    from rdv.cli import releasing

    output.document(releasing.deploy(project, model, version, timeout_s), form)


@click.command()
@click.argument("model", type=options.MODEL)
@TIMEOUT
@options.project
@options.output
def rollback(model: str, timeout_s: float, project: Project, form: str) -> None:
    """Go back to the version of MODEL that was served before.

    It waits until every worker says so. Workers still have it loaded: no build, no download, no validation.
    """
    from rdv.cli import releasing

    output.document(releasing.rollback(project, model, timeout_s), form)
