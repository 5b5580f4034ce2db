"""Write docs/commands.md: what every command says about itself. `python docs/generate.py` after changing one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from rdv.cli.main import cli

PAGE = Path(__file__).with_name("commands.md")
HEADER = """\
# Commands

What every command says about itself, written by `docs/generate.py`; a test compares it with the commands.
Exit codes: `rdv help exit-codes`. What -P takes: `rdv help grids`. Where a setting comes from: `rdv help settings`.
Forms of output: `rdv help output`. Nearly every command takes `--project FOLDER`, `--env NAME`, `--set KEY=VALUE`
and `-o FORM`; they are not repeated below.
"""


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below one, groups before their commands."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            inner = click.Context(found, info_name=name, parent=context)
            yield found, inner
            yield from commands(found, inner)


def entry(command: click.Command, context: click.Context) -> str:
    """One command: its usage, its help, its own options."""
    pieces = [option_names(one) for one in command.params if isinstance(one, click.Argument)]
    arguments = " ".join(pieces) if not isinstance(command, click.Group) else "COMMAND ..."
    lines = [f"## {context.command_path}", "", f"`{context.command_path} {arguments}`".replace(" `", "`"), ""]
    lines += [inspect.cleandoc(command.help or ""), ""]
    own = [one for one in command.params if isinstance(one, click.Option) and not shared(one)]
    lines += [f"- `{option_names(one)}`: {one.help or ''}" for one in own]
    if command.epilog:
        lines += [""] * bool(own) + [inspect.cleandoc(command.epilog)]
    return "\n".join(lines).rstrip() + "\n"


def option_names(parameter: click.Parameter) -> str:
    """How a parameter is written: an argument in capitals, an option with all its names."""
    if isinstance(parameter, click.Argument):
        name = parameter.metavar or (parameter.name or "").upper()
        return name if parameter.required or name.startswith("[") else f"[{name}]"
    return ", ".join(parameter.opts)


def shared(option: click.Option) -> bool:
    """Whether an option is one that nearly every command has."""
    return bool({"--project", "--env", "--set", "--help", "--output"} & set(option.opts))


def page() -> str:
    """The whole page."""
    root = click.Context(cli, info_name="rdv")
    return "\n".join([HEADER, *(entry(*found) for found in commands(cli, root))])


if __name__ == "__main__":
    PAGE.write_text(page())
