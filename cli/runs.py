"""`rdv runs list | show | wait | cancel`, `rdv logs RUN | STEP`."""

from __future__ import annotations

import getpass
import platform
import sys
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup

if TYPE_CHECKING:
    from rdv.config import Project


@click.group(cls=HintingGroup)
def runs() -> None:
    """List, show, await and cancel training runs."""


@runs.command("list")
@click.argument("model", type=options.MODEL, default="")
@options.project
@options.output
def list_(model: str, project: Project, form: str) -> None:
    """List runs, newest first, or those of MODEL."""
    from rdv.pipelines.runs.every import Runs

    found = [output.finite(one) for one in Runs(project).all() if model in ("", one.model)]
    columns = ["run", "model", "state", "started", "points", "trained", "version", "released"]
    output.rows(found, columns, form, empty="no run yet; `rdv train MODEL` begins one")


@runs.command()
@click.argument("run")
@options.project
@options.output
def show(run: str, project: Project, form: str) -> None:
    """Show RUN, named by its id or the beginning of it, and its steps."""
    from rdv.backends import select
    from rdv.pipelines.runs.every import Runs

    record = Runs(project).find(run)
    steps = [output.finite(one) for one in select.cluster(project, 1).steps(record.run).values()]
    output.document({**output.finite(record), **({} if form in output.TEXTS else {"steps": steps})}, form)
    if form in output.TEXTS:
        output.section("steps", steps, ["step", "status", "wall_s", "peak_memory_bytes", "reason"], form)


@runs.command()
@click.argument("run")
@options.project
@options.output
def cancel(run: str, project: Project, form: str) -> None:
    """Ask RUN to end; what it has made stays made, and a step that another run waits for goes on."""
    from rdv.pipelines.runs.every import Runs

    record = Runs(project).cancel(run, f"{getpass.getuser()} on {platform.node()}")
    output.document({"run": record.run, "was": record.state}, form)


@runs.command()
@click.argument("run")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="Give up after so many seconds.")
@options.project
@options.output
def wait(run: str, timeout_s: float | None, project: Project, form: str) -> None:
    """Wait for the end of RUN and end with its exit code; Ctrl-C ends the waiting only."""
    from rdv.cli.training import wait_for

    wait_for(project, run, timeout_s, form)


@click.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended; Ctrl-C stops the reading only.")
@options.project
def logs(run: str, follow: bool, project: Project) -> None:
    """Print what RUN, a run or one of its steps, wrote."""
    from rdv.cli.run_logs import log_chunks

    for chunk in log_chunks(project, run, follow):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
