"""Whether a goal can be answered: a score has gone round the bus, just now or for a probe sent to find out."""

from __future__ import annotations

import asyncio

from rdv.clock import Clock
from rdv.ids import message_ids
from rdv.serving.bus.port import Hub
from rdv.serving.gateway.desk import Desk

RECENT_S = 2.0
MIN_WAIT_S = 0.25
NOBODY = "no model of the policy is connected"


class Readiness:
    """Answers for one goal; any number may ask at once, one probe at most is on its way."""

    def __init__(self, desk: Desk, hub: Hub, clock: Clock) -> None:
        self._desk, self._hub, self._clock = desk, hub, clock
        self._asking = asyncio.Lock()
        self._proved = -1e9
        self._new_id = message_ids()

    async def reason(self) -> str:
        """Empty when a model of the policy has scored within the last 2 s, or scores a probe now; else why not."""
        async with self._asking:
            now = self._clock.monotonic()
            if now - max(self._proved, self._desk.room.answered_at) < RECENT_S:
                return ""
            chosen = self._desk.decider.policy.chosen()
            present = {one.name for lane in self._desk.lanes for one in self._hub.replicas(lane.topic)}
            waiting_for = [name for name in chosen if name in present]
            if not waiting_for:
                return NOBODY
            if not await self._probe(waiting_for, now):
                return "no model of the policy has scored a probe in time"
            self._proved = self._clock.monotonic()
            return ""

    async def _probe(self, names: list[str], now: float) -> bool:
        desk = self._desk
        places = {desk.names.index(name) for name in names}
        message_id, scored = self._new_id(), asyncio.Event()

        def told(place: int) -> None:
            if place in places:
                scored.set()

        wait_s = max(MIN_WAIT_S, desk.decider.policy.budget_ms * 1e-3)
        desk.room.probes[message_id] = told
        try:
            for lane in desk.lanes:
                lane.probe(message_id, now + wait_s, self._clock.now(), names)
            async with asyncio.timeout(wait_s):
                await scored.wait()
        except TimeoutError:
            return False
        finally:
            del desk.room.probes[message_id]
        return True
