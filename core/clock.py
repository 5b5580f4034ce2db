"""Clocks that are handed in as arguments, so that time in a test is a value."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Wall time and monotonic time, both in seconds."""

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back and is one for all processes of this host."""
        ...


class SystemClock:
    """The clock of this machine; CLOCK_MONOTONIC is shared by all its processes on Linux."""

    __slots__ = ()

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


@dataclass(slots=True)
class ManualClock:
    """A clock that stands still until `advance` is called."""

    wall_s: float = 1_700_000_000.0
    mono_s: float = 1_000.0

    def now(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.mono_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward; seconds >= 0."""
        self.wall_s += seconds
        self.mono_s += seconds
