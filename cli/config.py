"""`rdv config check | show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup

if TYPE_CHECKING:
    from rdv.config import Project


@click.group(cls=HintingGroup)
def config() -> None:
    """Check rdv.toml, or show it with the origin of each value."""


@config.command()
@options.project
@options.output
def check(project: Project, form: str) -> None:
    """Find what in rdv.toml, its schemas and its tables cannot work; exit code 3 when there is any."""
    from rdv.errors import ConfigError
    from rdv.settings import check as problems

    found = problems(project)
    file = project.folder / "rdv.toml"
    output.rows([{"problem": one} for one in found], ["problem"], form, empty=f"{file}: no problem")
    if found:
        raise ConfigError(f"{file} has {len(found)} problem(s)", "mend them, then `rdv config check`")


@config.command()
@options.settings
@options.output
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.argument("keys", nargs=-1)
def show(
    folder: Path | None, env: str, overrides: dict[str, str], form: str, origin: bool, keys: tuple[str, ...]
) -> None:
    """Show every setting that holds, or those whose name begins with one of KEYS. Secrets are never printed."""
    from rdv.settings import explain

    found = [one for one in explain(folder, env, overrides) if not keys or one.key.startswith(keys)]
    columns = ["key", "value", "origin"] if origin else ["key", "value"]
    output.rows([{name: getattr(one, name) for name in columns} for one in found], columns, form)
