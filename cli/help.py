"""`rdv help [COMMAND | TOPIC]`."""

from __future__ import annotations

import click

EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "changes are present (plan)",
    3: "usage or configuration: mend the command or rdv.toml",
    4: "not authorised",
    5: "unreachable: a server or socket did not answer; the same command may succeed later",
    6: "timed out; the same command may succeed later",
    7: "refused by a gate or verdict; nothing was published",
    8: "lost a race: somebody else changed it first, and theirs stands",
    130: "interrupted",
}

OUTPUT = """Data goes to stdout, progress and notes to stderr. Every reading command takes -o:

  table   aligned, on a terminal with bold titles (NO_COLOR is honoured); the default
  json    one document
  jsonl   one object a line
  md      a Markdown table, for merge requests

Names of JSON keys stay; keys may be added."""

SETTINGS = """A value comes from, in this order:

  1. a flag            rdv serve --set serve.port=8081
  2. the environment   RDV_SERVE_PORT=8081 rdv serve
  3. rdv.toml          [serve]
                       port = 8081
  4. the default

RDV_ENV chooses the environment, RDV_DEBUG=1 shows tracebacks. `rdv config show --origin` says where each value came
from, `rdv config check` finds what cannot work."""

GRIDS = """What -P takes in `rdv train MODEL -P NAME=VALUES`:

  num_leaves=31            one value instead of the default
  num_leaves=31,63         each of these
  depth=3..6               each whole number, both ends included
  learning_rate=0.01..0.3  with --trials N --seed S: N values drawn from the range
  learning_rate=0.001..0.3:log  the same, drawn evenly in the logarithm

Several -P form a grid of every combination. More than 1,000 points ask first, or take --yes."""


def exit_codes() -> str:
    """The table of exit codes."""
    return "\n".join(f"{code:>4}  {meaning}" for code, meaning in EXIT_CODES.items())


def topics() -> dict[str, str]:
    """The texts of `rdv help` by topic."""
    return {"exit-codes": exit_codes(), "output": OUTPUT, "settings": SETTINGS, "grids": GRIDS}


@click.command("help")
@click.argument("words", metavar="[COMMAND | TOPIC]", nargs=-1)
@click.pass_context
def help_command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command or a topic, such as exit-codes.

    The topics: exit-codes, grids, output, settings.
    """
    root = ctx.find_root()
    text = topics().get(" ".join(words))
    if text is None:
        page, command = root, root.command
        for word in words:
            assert isinstance(command, click.Group)
            name, found, _ = command.resolve_command(page, [word])
            assert found is not None
            page, command = click.Context(found, info_name=name, parent=page), found
        text = command.get_help(page)
    click.echo(text)
