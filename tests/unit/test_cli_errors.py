"""The edge of the command line: how an error becomes one line and an exit code."""

import os
import signal
import time

import click
import pytest
from click.testing import CliRunner

from rdv.cli import main as edge
from rdv.cli.help import EXIT_CODES
from rdv.errors import Exit, Interrupted, LostRace, NotFound, RdvError, Refused, TimedOut, Unreachable


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit code of a command that raises an error."""

    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(edge, "cli", failing)
    return edge.main([])


@pytest.mark.parametrize("kind", [RdvError, NotFound, Unreachable, TimedOut, Refused, LostRace, Interrupted])
def test_an_error_of_ours_is_one_line_and_its_exit_code(
    kind: type[RdvError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What, which and what to type next stand in one line on stderr; stdout stays empty; the code is the error's."""
    assert ending(monkeypatch, kind("model 'a' is\nmissing", "see `rdv models list`")) == kind.exit_code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "rdv: model 'a' is missing; see `rdv models list`\n")


def test_an_unexpected_error_is_short_unless_debugging(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug ends with exit code 1 and one line, with RDV_DEBUG with the traceback as well."""
    assert ending(monkeypatch, ZeroDivisionError("by zero")) == Exit.FAILED
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "--debug" in line
    monkeypatch.setenv("RDV_DEBUG", "1")
    assert ending(monkeypatch, ZeroDivisionError("by zero")) == Exit.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command with the code that shells know."""
    assert ending(monkeypatch, KeyboardInterrupt()) == Exit.INTERRUPTED


def test_an_error_inside_a_group_of_tasks_keeps_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours that tasks wrapped in groups decides the exit code."""
    nested = ExceptionGroup("outer", [ValueError("x"), ExceptionGroup("inner", [LostRace("theirs stands")])])
    assert ending(monkeypatch, nested) == Exit.LOST_RACE


@pytest.mark.parametrize("argv", [["trian"], ["--nonsense"], ["completion"], ["completion", "powershell"], ["models"]])
def test_a_usage_error_is_3(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown commands and options, missing and wrong arguments end with 3, naming the help page to read."""
    assert edge.main(argv) == Exit.USAGE
    assert "--help`" in capsys.readouterr().err


def test_a_misspelt_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command names the one that was probably meant."""
    edge.main(["depoly"])
    assert "did you mean 'deploy'?" in capsys.readouterr().err


def test_debug_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--debug after the command works as before it."""
    assert edge.main(["completion", "--debug", "powershell"]) == Exit.USAGE
    assert "Traceback" in capsys.readouterr().err


def test_the_table_of_exit_codes_is_complete() -> None:
    """`rdv help exit-codes` explains every code there is and no other."""
    assert set(EXIT_CODES) == {int(code) for code in Exit}
    shown = CliRunner().invoke(edge.cli, ["help", "exit-codes"]).output
    assert [int(line.split()[0]) for line in shown.splitlines()] == sorted(int(code) for code in Exit)


def test_being_terminated_is_being_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM unwinds a command as Ctrl-C does, so that it ends what it has begun; afterwards it is as before."""
    ended = []

    @click.command()
    def waiting() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            ended.append(True)

    monkeypatch.setattr(edge, "cli", waiting)
    before = signal.getsignal(signal.SIGTERM)
    assert edge.main([]) == Exit.INTERRUPTED
    assert ended == [True]
    assert signal.getsignal(signal.SIGTERM) is before
