"""One timer for all deadlines: things that want a look at a moment, in ticks of a millisecond.

Adding costs a list append; nothing is ever removed early, so whoever is called must see for itself whether
there is still something to do. With nothing added no timer runs.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from typing import Generic, TypeVar

from rdv.clock import Clock, SystemClock

TICK_S = 0.001
SYSTEM_CLOCK = SystemClock()

T = TypeVar("T")


class Wheel(Generic[T]):
    """Calls `due(item, now)` once for each added item, not before its moment and, in an idle loop, a tick or two later.

    Moments are in seconds of `clock.monotonic()`; the loop's own clock is coarse and stands still within a turn.
    """

    __slots__ = ("_at", "_clock", "_due", "_loop", "_reached", "_slots", "_ticks", "_timer")

    def __init__(
        self, due: Callable[[T, float], None], loop: asyncio.AbstractEventLoop, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._due, self._loop, self._clock = due, loop, clock
        self._slots: dict[int, list[T]] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._at = self._reached = 0

    def add(self, item: T, moment_s: float) -> None:
        """Have an item looked at from this moment on; a moment in the past is the next tick."""
        tick = max(math.ceil(moment_s / TICK_S), self._reached + 1)
        slot = self._slots.get(tick)
        if slot is not None:
            slot.append(item)
            return
        self._slots[tick] = [item]
        heapq.heappush(self._ticks, tick)
        if self._timer is None or tick < self._at:
            self._arm()

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def close(self) -> None:
        """Forget everything."""
        self._slots.clear()
        self._ticks.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ticks:
            self._at = self._ticks[0]
            ticks = math.ceil(self._at - self._clock.monotonic() / TICK_S)
            self._timer = self._loop.call_later(max(1, ticks) * TICK_S, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        self._reached = reached = math.floor(now / TICK_S)
        try:
            while self._ticks and self._ticks[0] <= reached:
                for item in self._slots.pop(heapq.heappop(self._ticks)):
                    self._due(item, now)
        finally:
            self._arm()
