"""`rdv init NAME`."""

from __future__ import annotations

from pathlib import Path

import click

from rdv.cli import options, output
from rdv.errors import Exit, UsageError


@click.command()
@click.argument("name", type=click.Path(path_type=Path), required=False)
@click.option(
    "--template", type=click.Choice(["tabular", "empty", "library"]), default="tabular", show_default=True,
    help="What kind of project.",
)  # fmt: skip
@click.option("--goal", default="churn", show_default=True, help="The first goal: what a request asks about.")
@click.option("--update", is_flag=True, help="Show what today's templates would change; exit code 2 if anything.")
@click.option("--write", "apply_it", is_flag=True, help="With --update: change the files that nobody has changed.")
@options.output
def init(name: Path | None, template: str, goal: str, update: bool, apply_it: bool, form: str) -> int:
    """Scaffold a service project in the new folder NAME.

    It gets an rdv.toml with comments, the goal's request schema and its documentation, a made-up sample to train on,
    tests made from the schema, hooks, and the stages of its way into production. `empty` is the same without models,
    `library` one step of the domain as a package. A file that exists is never overwritten. --update looks at the
    project in NAME, or here; what somebody has changed in it stays theirs.
    """
    if update:
        return show_update(name or Path.cwd(), apply_it, form)
    if name is None or apply_it:
        raise UsageError("no project is named" if name is None else "--write belongs to --update", "`rdv init NAME`")
    return make(name, goal, template)


def make(folder: Path, goal: str, template: str) -> int:
    """Write a new project."""
    from rdv.cli.scaffold import starter, write
    from rdv.cli.scaffold_update import RECORD, record_text

    project = folder.absolute().name
    files = starter(project, goal, template)
    for path in write(folder, files | {RECORD: record_text(template, project, goal, files)}):
        output.note(f"wrote {path}")
    then = {"tabular": f"rdv train {goal}/lightgbm", "empty": "rdv config check", "library": "make test"}
    output.note(f"next: cd {folder} && {then[template]}")
    return Exit.OK


def show_update(folder: Path, apply_it: bool, form: str) -> int:
    """Show what would change in a project, or change what nobody has changed in it."""
    from rdv.cli.scaffold import starter
    from rdv.cli.scaffold_update import apply, changes, read_record, shown

    record = read_record(folder)
    files = starter(record.project, record.goal, record.template)
    found = changes(folder, record, files)
    if form in output.TEXTS:
        for one in found:
            click.echo(one.diff)
    output.rows(shown(found), ["file", "state"], form, empty="nothing to change")
    if apply_it:
        apply(folder, record, files, found)
        return Exit.OK
    return Exit.CHANGES if found else Exit.OK
