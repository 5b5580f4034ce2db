"""`rdv api [GOAL]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output

if TYPE_CHECKING:
    from rdv.config import Project


@click.command()
@click.argument("goal", type=options.GOAL, default="")
@click.option("--check", is_flag=True, help="Write nothing; exit code 2 when a file is not what it would be.")
@options.project
@options.output
def api(goal: str, check: bool, project: Project, form: str) -> int:
    """Write the documentation of the API from the schemas.

    For GOAL, or every goal: docs/GOAL.openapi.json for programs, docs/GOAL.md for people.
    """
    from rdv.cli.api_page import documents
    from rdv.cli.recorded import one_goal
    from rdv.errors import Exit

    goals = [one_goal(project, goal)] if goal else sorted(project.config.goals)
    found = []
    for name in goals:
        for path, text in documents(project, name).items():
            old = path.is_file() and path.read_text() == text
            if not old and not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            file = str(path.relative_to(project.folder))
            found.append({"goal": name, "file": file, "state": "unchanged" if old else "stale" if check else "written"})
    output.rows(found, ["goal", "file", "state"], form, empty="rdv.toml has no goal")
    return Exit.CHANGES if any(one["state"] == "stale" for one in found) else Exit.OK
