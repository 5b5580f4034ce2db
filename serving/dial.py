"""Subscriptions to every gateway of a project: new gateways noticed, dead ones let go, connections made again.

How gateways are noticed is `rdv.serving.noticing`'s. Whoever subscribes (a replica, the decoy) holds one subscription a
gateway; a line that stands is kept, whatever becomes of its gateway's mention.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from rdv.errors import BusError
from rdv.restarts import Again, RestartPolicy, after_death
from rdv.serving.bus.port import Identity, Subscription
from rdv.serving.noticing import Join, Noticing
from rdv.supervise import TaskOwner

REDIAL = RestartPolicy(first_s=0.02, ceiling_s=0.25, window_s=5.0)
_log = logging.getLogger("rdv.dial")

Serve = Callable[[Subscription], Awaitable[None]]


@dataclass(slots=True)
class Seat:
    """One subscription to hold at every gateway. identity: who subscribes, asked at each attempt.

    serve: works a subscription until it raises BusError, when its gateway is gone.
    """

    name: str
    identity: Callable[[], Identity]
    serve: Serve


@dataclass(slots=True)
class Line:
    """How one seat stands with one gateway. refused: why the last attempt failed, empty while connected."""

    seat: str
    gateway: str
    connected: bool = False
    refused: str = ""


@dataclass(slots=True)
class Dialer:
    """Keeps seats taken at every gateway that is noticed. on_change: called when a line's state changed."""

    owner: TaskOwner
    noticing: Noticing
    seats: list[Seat]
    on_change: Callable[[], None] = lambda: None
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    open: list[Subscription] = field(default_factory=list)
    there: Mapping[str, Join] = field(default_factory=dict)

    def start(self) -> None:
        """Begin; needs a started owner. The subscriptions are left when the owner stops."""
        self.owner.on_stop("leave the gateways", flush=self.leave)
        self.owner.task("gateways", lambda: self.noticing.follow(self._noticed))

    async def leave(self) -> None:
        """Close every subscription, after what was sent has been handed over."""
        for subscription in list(self.open):
            await subscription.close()

    def _noticed(self, there: Mapping[str, Join]) -> None:
        self.there = there
        for gateway in there:
            for seat in self.seats:
                if (seat.name, gateway) not in self.lines:
                    line = self.lines[seat.name, gateway] = Line(seat.name, gateway)
                    self.owner.spawn(f"{seat.name} at {gateway}", self._keep(seat, line))

    async def _keep(self, seat: Seat, line: Line) -> None:
        """Hold one seat at one gateway for as long as it is there."""
        failures: list[float] = []
        now = asyncio.get_running_loop().time
        try:
            while (join := self.there.get(line.gateway)) is not None:
                try:
                    await self._sit(seat, join, line)
                except Exception as error:  # whatever one gateway does, the others are served on
                    self._tell(line, False, str(error) or type(error).__name__)
                failures = [*failures[-8:], now()]
                again = after_death(REDIAL, failures, now(), random.random(), line.refused)
                assert isinstance(again, Again)
                await asyncio.sleep(again.after_s)
        finally:
            self.lines.pop((seat.name, line.gateway), None)
            self.on_change()

    async def _sit(self, seat: Seat, join: Join, line: Line) -> None:
        asked = seat.identity()
        subscription = await join(asked)
        self.open.append(subscription)
        self._tell(line, True, "")
        try:
            now = seat.identity()
            if now.name != asked.name:
                raise BusError(f"{asked.name} became {now.name} while it was let in", "it comes again as that")
            if now.version != asked.version:
                subscription.announce(now.version)  # nobody could while we were let in
            await seat.serve(subscription)
        finally:
            # a stopping owner cancels us before its flush step leaves: then leaving is that step's work
            if not self.owner.stopping:
                self.open.remove(subscription)
                await subscription.close()

    def _tell(self, line: Line, connected: bool, refused: str) -> None:
        if (line.connected, line.refused) != (connected, refused):
            line.connected, line.refused = connected, refused
            _log.info("%s at %s: %s", line.seat, line.gateway, refused or "connected")
            self.on_change()
