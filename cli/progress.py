"""Progress of a run on stderr: bars on a terminal, else one line a change of state."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from rdv.pipelines.runs.events import Event, OnEvent

SPOKEN = ("again", "failed", "chosen", "verdict", "published")


@contextmanager
def progress() -> Iterator[OnEvent]:
    """A function that shows each event of a run while the block lasts."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lines(lambda text: click.echo(text, err=True))
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        yield Bars(bars)


def lines(say: Callable[[str], None]) -> OnEvent:
    """A function that says each event in one line."""
    from rdv.pipelines.runs.events import line

    return lambda event: say(line(event))


class Bars:
    """A bar for the run and one for each kind of step that it dispatched; what is worth reading stays above them."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._run: TaskID | None = None
        self._kinds: dict[str, TaskID] = {}
        self._dispatched: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        if self._run is None:
            self._run = self._bars.add_task("run", total=None)
        self._bars.update(self._run, completed=event.done, total=max(event.total, event.done) or None)
        if event.kind in SPOKEN:
            from rdv.pipelines.runs.events import line

            self._bars.console.print(line(event), highlight=False, markup=False)
        elif event.kind == "dispatched":
            self._started(event)
        elif event.kind == "done" and event.task in self._kinds:
            self._bars.advance(self._kinds[event.task])

    def _started(self, event: Event) -> None:
        count = self._dispatched[event.task] = self._dispatched.get(event.task, 0) + 1
        if event.task not in self._kinds:
            self._kinds[event.task] = self._bars.add_task(f"  {event.task}")
        title = f"  {event.task} {event.point}".rstrip()
        self._bars.update(self._kinds[event.task], total=count, description=title)
