"""`rdv init NAME`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name", type=click.Path(path_type=Path))
@click.option("--goal", default="churn", show_default=True, help="The first goal: what a request asks about.")
def init(name: Path, goal: str) -> None:
    """Scaffold a service project in the new folder NAME.

    It gets an rdv.toml with comments, the goal's request schema, a made-up sample to train on, a README and a
    .gitignore. A file that exists is never overwritten.
    """
    from rdv.cli.output import note
    from rdv.cli.scaffold import starter, write

    for path in write(name, starter(name.absolute().name, goal)):
        note(f"wrote {path}")
    note(f"next: cd {name} && rdv train {goal}/lightgbm")
