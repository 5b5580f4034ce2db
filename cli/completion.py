"""`rdv completion SHELL`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    It completes commands, options, and the names of models and goals. For bash: add
    `eval "$(rdv completion bash)"` to ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    from rdv.cli.main import cli

    chosen = get_completion_class(shell)
    assert chosen is not None
    click.echo(chosen(cli, {}, "rdv", "_RDV_COMPLETE").source())
