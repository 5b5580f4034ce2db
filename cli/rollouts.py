"""`rdv promote MODEL` and `rdv rollouts [MODEL]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.deploy import TIMEOUT

if TYPE_CHECKING:
    from rdv.config import Project

COLUMNS = ["model", "rollout", "version", "state", "share", "canaries", "by", "at", "changed", "reason"]


@click.command()
@click.argument("model", type=options.MODEL)
@TIMEOUT
@options.project
@options.output
def promote(model: str, timeout_s: float, project: Project, form: str) -> None:
    """Serve the version of MODEL that a rollout tries out.

    The model's workers load it beside the one that answers and swap, as after `rdv deploy`; the canaries answer until
    they have. Killed in the middle, the same command goes on. Exit code 7 while the canaries have not answered yet, 8
    when somebody else ended the rollout first.
    """
    from rdv.cli import rolling

    output.document(rolling.promote(project, model, timeout_s), form)


@click.command()
@click.argument("model", type=options.MODEL, default="")
@options.project
@options.output
def rollouts(model: str, project: Project, form: str) -> None:
    """List rollouts: how each stands or ended, and why.

    Of MODEL, or of all models, newest first. `rdv status` shows how the subjects of a rollout's share and all others
    are answered.
    """
    from rdv.cli import rolling

    empty = "no rollout yet; `rdv deploy MODEL --canary 1` begins one"
    output.rows(rolling.records(project, model), COLUMNS, form, empty=empty)
