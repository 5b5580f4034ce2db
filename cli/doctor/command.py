"""`rdv doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output

if TYPE_CHECKING:
    from rdv.cli.doctor.findings import Finding

COLUMNS = ["verdict", "check", "found", "remedy"]


@click.command()
@click.option("--quick", is_flag=True, help="Leave out the built-in goal, which takes some seconds.")
@options.settings
@options.output
def doctor(quick: bool, folder: Path | None, env: str, overrides: dict[str, str], form: str) -> None:
    """Check what can be wrong here, each failure with its remedy.

    First this machine, then the project of rdv.toml when there is one, with the servers of the environment of --env,
    last a built-in goal, served by processes of its own, whose models add up their inputs, so that each answer can be
    checked exactly. Exit code 1 when a check fails.
    """
    from rdv.cli.doctor.findings import FAIL
    from rdv.errors import RdvError

    found = list(findings(quick, folder, env, overrides))
    output.rows([one.record() for one in found], COLUMNS, form)
    failed = [one.check for one in found if one.verdict == FAIL]
    if failed:
        raise RdvError(f"{len(failed)} of {len(found)} checks failed: {', '.join(failed)}", "their remedies are above")


def findings(quick: bool, folder: Path | None, env: str, overrides: dict[str, str]) -> Iterator[Finding]:
    """All checks that apply, one after the other."""
    from rdv.cli.doctor import cluster as doctor_cluster
    from rdv.cli.doctor import goal as doctor_goal
    from rdv.cli.doctor import machine as doctor_machine
    from rdv.cli.doctor import project as doctor_project
    from rdv.cli.doctor.findings import judge, run, skipped
    from rdv.errors import RdvError
    from rdv.settings import find_project, load_project

    yield from doctor_machine.checks()
    try:
        place = find_project(folder)
    except RdvError as error:
        yield skipped("project", error.what)
    else:
        try:
            project = load_project(place, env, overrides)
            yield from doctor_cluster.checks(project)
            yield from doctor_project.checks(project)
        except RdvError as error:
            yield judge("rdv.toml", False, error.what, error.hint)
    if not quick:
        yield run("built-in goal", doctor_goal.check)
