"""`rdv models list | show | diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup

if TYPE_CHECKING:
    from rdv.config import Project

VERSION_WORDS = "A version may be named by its id, the beginning of it, or one of current, previous, newest."


@click.group(cls=HintingGroup)
def models() -> None:
    """List models and versions, show one, compare two."""


@models.command("list")
@click.argument("model", type=options.MODEL, default="")
@options.project
@options.output
def list_(model: str, project: Project, form: str) -> None:
    """List the models of rdv.toml, or the versions of MODEL, newest first."""
    from rdv.cli.model_views import model_records, version_records

    if model:
        columns = ["version", "pointer", "created", "on_unseen_rows", "run"]
        empty = f"{model} has no version yet; `rdv train {model}` publishes one"
        return output.rows(version_records(project, model), columns, form, empty)
    columns = ["model", "goal", "role", "flavour", "current", "previous", "versions", "newest"]
    output.rows(model_records(project), columns, form, empty="rdv.toml has no model")


@models.command(epilog=VERSION_WORDS)
@click.argument("model", type=options.MODEL)
@click.argument("version", default="")
@options.project
@options.output
def show(model: str, version: str, project: Project, form: str) -> None:
    """Show what made VERSION of MODEL, what it measured, what it reads, and MODEL's releases.

    Without VERSION the one that is served, or else the newest.
    """
    from rdv.cli.model_views import release_records, version_document

    output.document(version_document(project, model, version), form)
    if form in output.TEXTS:
        output.section("releases", release_records(project, model), ["serial", "kind", "version", "at", "by"], form)


@models.command(epilog=VERSION_WORDS)
@click.argument("model", type=options.MODEL)
@click.argument("one", default="current")
@click.argument("other", default="newest")
@options.project
@options.output
def diff(model: str, one: str, other: str, project: Project, form: str) -> None:
    """Show what differs between versions ONE and OTHER of MODEL: inputs, data, parameters, code, metrics."""
    from rdv.cli.compare import differences
    from rdv.cli.model_views import manifest_of

    found = differences(manifest_of(project, model, one), manifest_of(project, model, other))
    output.rows(found, ["aspect", "name", "from", "to", "change"], form, empty="they are the same")
