"""`rdv plan`, `rdv apply` and `rdv scale`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.errors import Exit

if TYPE_CHECKING:
    from rdv.config import Project

PLANNED = ["what", "change", "differs"]
ROLLED = ["job", "name", "healthy", "waited_s"]
TIMEOUT = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=300.0, show_default=True,
    help="Seconds to follow a change; 0: do not.",
)  # fmt: skip
REMOVE = click.option("--remove", is_flag=True, help="Take all serving jobs away, and change nothing else.")
ANEW = click.option("--anew", is_flag=True, help="Replace every instance, also where nothing differs.")


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Keep the plan in a file for `rdv apply`.")
@REMOVE
@ANEW
@options.project
@options.output
def plan(out: Path | None, remove: bool, anew: bool, project: Project, form: str) -> int:
    """Show what `rdv apply` would change on a cluster.

    That is serving jobs and their counts, parent jobs, policies. Nothing is changed here. Exit code 2 when there is
    something to change, 7 when a schema breaks what a consumer has recorded with `rdv contract`. A policy that was put
    into the registry and is not rdv.toml's is to be taken out. Counts that `rdv scale` has set stay, until rdv.toml's
    own number changes. It also says of which job no node could run all instances now, for want of a driver or of room.
    """
    from rdv.cli import applying
    from rdv.files import replace_file
    from rdv.releases.service_plan import encode_plan

    made = applying.make_plan(project, remove, anew)
    if out is not None:
        replace_file(out, encode_plan(made), 0o600)
    if form in ("json", "jsonl"):
        output.document(output.finite(made), form)
    else:
        output.rows(applying.records(made), PLANNED, form)
        for one in made.services:
            for reason in one.held:
                output.note(f"{one.name}: {reason}")
    return Exit.CHANGES if made.changes else Exit.OK


@click.command()
@click.argument("planfile", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@REMOVE
@ANEW
@TIMEOUT
@options.project
@options.output
def apply(
    planfile: Path | None, remove: bool, anew: bool, timeout_s: float, project: Project, form: str
) -> None:
    """Make a cluster's serving jobs what rdv.toml says, exactly as planned.

    It carries out PLANFILE, or what `rdv plan` would say now, and follows each change to its end: from evaluation to
    deployment to instances. Exit code 1 when one fails, with its reasons and last log lines, also when the version
    before was brought back; 8, and nothing is done, when something is not as it was when it was planned. What an
    earlier one has begun and is on its way still is followed, too.

    With --anew every instance is replaced, a few at a time: after a cause of failure that is not in rdv.toml, or after
    Consul has lost its data, and with it the tokens by which instances tell that they are there.
    """
    from rdv.cli import applying

    made = applying.read_plan(project, planfile) if planfile else applying.make_plan(project, remove, anew)
    done = applying.apply_plan(project, made, timeout_s)
    output.rows(done, ROLLED, form, empty="nothing was to be changed" if not made.changes else "begun")


@click.command()
@click.argument("what", metavar="ROLE|MODEL")
@click.argument("count", type=click.IntRange(min=0, max=64))
@TIMEOUT
@options.project
@options.output
def scale(what: str, count: int, timeout_s: float, project: Project, form: str) -> None:
    """Have COUNT gateways, decoys or proxies, or so many workers of MODEL."""
    from rdv.cli import applying

    output.document(applying.scale(project, what, count, timeout_s), form)
