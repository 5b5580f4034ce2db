"""Write docs/commands.md: the help page of every command. `python docs/generate.py` after changing one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from rdv.cli.main import cli

PAGE = Path(__file__).with_name("commands.md")
HEADER = """\
# Commands

The help page of every command, written by `docs/generate.py`; a test compares it with what the commands say.
Exit codes: `rdv help exit-codes`. Grids: `rdv help grids`. Where a setting comes from: `rdv help settings`.
"""


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command below one, with its full name, groups before their commands."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            inner = click.Context(found, info_name=name, parent=context)
            yield inner.command_path, found, inner
            yield from commands(found, inner)


def page() -> str:
    """The whole page, of the same width on every terminal."""
    root = click.Context(cli, info_name="rdv", max_content_width=100, terminal_width=100)
    parts = [HEADER]
    for path, command, context in commands(cli, root):
        context.terminal_width = 100
        parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
