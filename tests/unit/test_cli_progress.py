"""Progress: a line a change of state without a terminal, bars that add up on one."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from rdv.cli.progress import Bars, lines, progress
from rdv.pipelines.runs.events import Event

EVENTS = [
    Event(kind="planned", total=3),
    Event(kind="dispatched", task="train", point="lr=0.1", total=3),
    Event(kind="dispatched", task="train", point="lr=0.2", total=3),
    Event(kind="done", task="train", point="lr=0.1", done=1, total=3),
    Event(kind="again", task="train", point="lr=0.2", text="out_of_memory; again with 1024 MB", done=1, total=3),
    Event(kind="done", task="train", point="lr=0.2", done=2, total=3),
    Event(kind="done", task="dataset", text="it was there", done=3, total=3),
]


def test_every_change_of_state_is_one_line_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe each event is a line on stderr, naming task and point, and stdout stays free for data."""
    with progress() as show:
        for event in EVENTS:
            show(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == len(EVENTS)
    assert "lr=0.2" in err.splitlines()[2]


def test_lines_are_said_as_they_come() -> None:
    """Nothing is held back: each event has been said when its call returns."""
    said: list[str] = []
    show = lines(said.append)
    for count, event in enumerate(EVENTS, start=1):
        show(event)
        assert len(said) == count


def test_bars_add_up() -> None:
    """The run's bar shows the run's own count, a kind's bar its steps; a step that was run again is said aloud."""
    screen = io.StringIO()
    bars = Progress(console=Console(file=screen, width=100))
    show = Bars(bars)
    for event in EVENTS:
        show(event)
    shown = {task.description.split()[0]: (task.completed, task.total) for task in bars.tasks}
    assert shown == {"run": (3, 3), "train": (2, 2)}
    assert "again with 1024 MB" in screen.getvalue()
