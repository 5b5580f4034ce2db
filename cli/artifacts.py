"""`rdv artifacts list | verify | gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup

if TYPE_CHECKING:
    from rdv.config import Project


@click.group(cls=HintingGroup)
def artifacts() -> None:
    """List, verify and collect what training has stored."""


@artifacts.command("list")
@click.argument("prefix", default="")
@options.project
@options.output
def list_(prefix: str, project: Project, form: str) -> None:
    """List artifacts, or those whose name begins with PREFIX."""
    from rdv.cli.stored import artifact_records

    columns = ["artifact", "kind", "size_bytes", "created", "version", "pointer"]
    output.rows(artifact_records(project, prefix), columns, form, empty="no artifact yet; `rdv train MODEL` makes some")


@artifacts.command()
@click.argument("prefix", default="")
@options.project
@options.output
def verify(prefix: str, project: Project, form: str) -> None:
    """Read every file again and compare it with its manifest; exit code 1 when anything is damaged."""
    from rdv.cli.stored import damage
    from rdv.errors import CorruptArtifact

    checked, found = damage(project, prefix)
    output.rows(found, ["artifact", "problem"], form, empty=f"{checked} artifacts are as their manifests say")
    if found:
        raise CorruptArtifact(f"{len(found)} problem(s) in {checked} artifacts", "see `rdv train --help` for --force")


@artifacts.command()
@click.option(
    "--older-than", "days", type=float, default=30.0, show_default=True, help="Keep what is younger, in days."
)
@options.yes
@options.project
@options.output
def gc(days: float, yes: bool, project: Project, form: str) -> None:
    """Show what nobody needs any more, and delete it with --yes.

    Kept: the current and the previous version of every model, canary models among them, what a rollout tries out, all
    that these were made from, and whatever is younger, or has come from another environment since. A version whose
    artifact goes is no longer listed. Uploads that were never finished go after a day at the latest.

    Where environments of rdv.toml share a store, what another one has published stays until that one collects it,
    here only the version's record goes; and nothing goes unless all of them can be looked at.
    """
    from rdv.cli.collecting import collect, garbage

    found = garbage(project, days)
    deleted = collect(project, found) if yes else 0
    output.rows(
        [one.record() for one in found], ["artifact", "what", "size_bytes", "created"], form, empty="no garbage"
    )
    if found:
        output.note(f"deleted {deleted} of {len(found)}" if yes else "nothing was deleted; add --yes to delete these")
