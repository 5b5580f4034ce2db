"""What a run tells while it goes on: one event a change of state, for a bar, a line or a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

EventKind = Literal[
    "planned", "dispatched", "joined", "done", "again", "failed", "chosen", "verdict", "published", "left", "away",
    "ended",
]  # fmt: skip


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One change of state. task: family of the step, point: its hyperparameters as the name shows them.

    done, total: points of the sweep that have their model, of all. at: UTC, ISO 8601.
    """

    kind: EventKind
    task: str = ""
    point: str = ""
    step: str = ""
    text: str = ""
    done: int = 0
    total: int = 0
    at: str = ""


OnEvent = Callable[[Event], None]
"""Called from any thread of the run, one call at a time; must not raise and should not take long."""


def line(event: Event) -> str:
    """The event as a line for people."""
    what = " ".join(part for part in (event.task, event.point) if part)
    count = f" ({event.done} of {event.total})" if event.total else ""
    text = f": {event.text}" if event.text else ""
    return f"{event.kind} {what}".rstrip() + count + text
