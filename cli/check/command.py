"""`rdv check [WHAT]...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output

if TYPE_CHECKING:
    from rdv.config import Project

WHAT = ("settings", "schemas", "api", "contracts", "hcl", "secrets", "names")


@click.command()
@click.argument("what", type=click.Choice(WHAT), nargs=-1, metavar="[WHAT]...")
@click.option("--junit", type=click.Path(path_type=Path), help="Write the results as JUnit XML, too.")
@options.project
@options.output
def check(what: tuple[str, ...], junit: Path | None, project: Project, form: str) -> None:
    """Look at a project before it is committed.

    Exit code 1 when something is to be mended. Everything, or of WHAT: `settings` (rdv.toml), `schemas`, `api` (docs/
    is what `rdv api` writes), `contracts` (the schemas keep what contracts/consumers expects), `hcl` (the job files in
    nomad/), `secrets` (no file that git knows, or would add, holds a key or a password), `names` (artifacts have the
    same names in every process). The scaffold's hooks are these.
    """
    from rdv.cli.check.cases import findings
    from rdv.cli.junit import document
    from rdv.errors import RdvError

    cases = [case for name in what or WHAT for case in findings(project, name)]
    if junit is not None:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_bytes(document("rdv check", cases, {"project": project.config.project}))
    output.rows([{"check": one.name, "problem": one.failure} for one in cases], ["check", "problem"], form)
    bad = [one for one in cases if one.failure]
    if bad:
        raise RdvError(f"{bad[0].name}: {bad[0].failure}", f"{len(bad)} problem(s) in all")
