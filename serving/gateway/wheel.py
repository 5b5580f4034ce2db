"""One timer for all deadlines: things that want a look at a moment, in ticks of a millisecond.

Adding costs a list append. An item that needs no look any more is not searched for: it counts itself out of its tick,
and a tick that nobody needs is emptied and passed over. With nothing to look at no timer runs.
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


class Tick(Generic[T]):
    """The items of one moment. live: how many of them still need their look."""

    __slots__ = ("items", "live")

    def __init__(self) -> None:
        self.items: list[T] = []
        self.live = 0

    def leave(self) -> None:
        """Count one item out, which needs no look any more; the last one lets go of them all."""
        self.live -= 1
        if not self.live:
            self.items.clear()


class Wheel(Generic[T]):
    """Calls `due(item, now)` at most once for each added item, not before its moment and, in an idle loop, a tick or

    two later; at least once unless its whole tick has counted itself out.

    Moments are in seconds of `clock.monotonic()`; the loop's own clock is coarse and stands still within a turn.
    """

    __slots__ = ("_at", "_clock", "_due", "_fires_s", "_loop", "_reached", "_slots", "_ticks", "_timer")

    def __init__(
        self, due: Callable[[T, float], None], loop: asyncio.AbstractEventLoop, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._due, self._loop, self._clock = due, loop, clock
        self._slots: dict[int, Tick[T]] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._at = self._reached = 0
        self._fires_s = 0.0

    def add(self, item: T, moment_s: float) -> Tick[T]:
        """Have an item looked at from this moment on; a moment in the past is the next tick, which is returned."""
        tick = max(math.ceil(moment_s / TICK_S), self._reached + 1)
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = Tick()
            heapq.heappush(self._ticks, tick)
            # a timer that is about to fire is not put off for one that is due earlier
            if self._timer is None or (tick < self._at and self._clock.monotonic() + TICK_S < self._fires_s):
                slot.live += 1
                self._arm()
                slot.live -= 1
        slot.items.append(item)
        slot.live += 1
        return slot

    def __len__(self) -> int:
        return sum(len(slot.items) for slot in self._slots.values())

    def close(self) -> None:
        """Forget everything."""
        self._slots.clear()
        self._ticks.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._ticks and self._slots[self._ticks[0]].live <= 0:
            del self._slots[heapq.heappop(self._ticks)]
        if self._ticks:
            self._at = self._ticks[0]
            now = self._clock.monotonic()
            after_s = max(1, math.ceil(self._at - now / TICK_S)) * TICK_S
            self._fires_s = now + after_s
            self._timer = self._loop.call_later(after_s, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        self._reached = reached = math.floor(now / TICK_S)
        try:
            while self._ticks and self._ticks[0] <= reached:
                for item in self._slots.pop(heapq.heappop(self._ticks)).items:
                    self._due(item, now)
        finally:
            self._arm()
