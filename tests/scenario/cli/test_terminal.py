"""What a person at a terminal sees, and what nobody sees elsewhere."""

import os
import pty
import subprocess
import sys
from typing import Any

import pytest

ESCAPE = "\x1b["


def at_a_terminal(folder: Any, environment: dict[str, str], *arguments: str) -> str:
    """What a command writes when its output and errors are a terminal."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "rdv.cli", *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs,
        stderr=theirs, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "160", **environment},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(mine, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(mine)
    assert process.wait(60) == 0, shown.decode()
    return shown.decode()


def test_tables_are_drawn_on_a_terminal_and_plain_in_a_pipe(new_project: Any) -> None:
    """Titles stand out for a person; in a pipe there is not one control character."""
    drawn = at_a_terminal(new_project.folder, {}, "config", "show", "serve.port")
    assert ESCAPE in drawn
    assert "8080" in drawn
    assert ESCAPE not in new_project("config", "show", "serve.port").stdout


def test_no_color_is_honoured(new_project: Any) -> None:
    """With NO_COLOR set nothing is coloured."""
    drawn = at_a_terminal(new_project.folder, {"NO_COLOR": "1"}, "config", "show", "serve.port")
    assert not [code for code in range(30, 48) if f"{ESCAPE}{code}m" in drawn]


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_progress_is_bars_on_a_terminal_and_lines_elsewhere(new_project: Any, term: str) -> None:
    """A terminal that can draw shows bars that move; a dumb one gets the same lines as a pipe."""
    arguments = ("train", "churn/lightgbm", "-P", "num_iterations=3")
    drawn = at_a_terminal(new_project.folder, {"TERM": term}, *arguments)
    assert ("dispatched dataset" in drawn) == (term == "dumb")
    assert ("━" in drawn) == (term == "xterm")
    assert "published" in drawn
