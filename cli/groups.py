"""Click groups of ours: one that imports a command when it is called, one with a command that need not be named."""

from __future__ import annotations

import importlib

import click

from rdv.cli.commands import COMMANDS, SECTIONS


def nearest(name: str, names: list[str]) -> str:
    """` (did you mean NAME?)` for the closest of the names, empty when none is close."""
    import difflib

    close = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class HintingGroup(click.Group):
    """A group that answers an unknown command with the nearest one it has."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"no command {args[0]!r}{known}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(HintingGroup):
    """The `rdv` command: lists its commands from a table and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(f"rdv.cli.{entry.module}"), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in entries.items()])


class DefaultGroup(HintingGroup):
    """A group whose command `default` runs when the first argument names none of its commands."""

    default = ""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default, *args]
        return super().parse_args(ctx, args)
