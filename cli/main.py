"""The `rdv` command, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from rdv import __version__
from rdv.cli.groups import LazyGroup
from rdv.errors import Exit, RdvError


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", prog_name="rdv", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error (or set RDV_DEBUG=1).")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """From a hyperparameter to an answer in production.

    `rdv demo` shows everything on real data; `rdv init NAME` begins a project. Exit codes: `rdv help exit-codes`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    asked = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    try:
        with terminated_as_interrupted():
            result = cli.main(args, prog_name="rdv", standalone_mode=False)
        return result if isinstance(result, int) else Exit.OK
    except (Exception, KeyboardInterrupt) as error:
        if asked or os.environ.get("RDV_DEBUG", "") not in ("", "0"):
            import traceback

            traceback.print_exception(error)
        return report(_cause(error))


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does while this lasts, so that a command ends what it has begun."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def report(error: BaseException) -> int:
    """Say on stderr, in one line, what happened; the exit code that belongs to it."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        # Python flushes stdout once more at exit, which must not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    line, code = verdict(error)
    click.echo(f"rdv: {' '.join(line.split())}", err=True)
    return code


def verdict(error: BaseException) -> tuple[str, int]:
    """What to say about an error, and its exit code."""
    if isinstance(error, RdvError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted", Exit.INTERRUPTED
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "rdv"
        what = error.format_message().rstrip(".") if not _wants_help(error) else "a command is missing"
        return f"{what}; see `{command} --help`", Exit.USAGE
    return f"{type(error).__name__}: {error}; `--debug` shows where, `rdv doctor` checks this machine", Exit.FAILED


def _wants_help(error: click.ClickException) -> bool:
    return isinstance(error, click.exceptions.NoArgsIsHelpError)


def _cause(error: BaseException) -> BaseException:
    """The error itself, or the first that rdv knows in a group of them."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    known, other = error.split((RdvError, KeyboardInterrupt))
    return _cause((known or other or error).exceptions[0])
