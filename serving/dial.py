"""Subscriptions to every gateway of a project: new gateways noticed, dead ones let go, connections made again.

A gateway is a socket in the bus folder. Whoever subscribes (a replica, the decoy) holds one subscription a gateway.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from rdv.folder_watch import FolderWatch
from rdv.restarts import Again, RestartPolicy, after_death
from rdv.serving.bus.frames import FramesSubscription, subscribe
from rdv.serving.bus.port import Identity
from rdv.supervise import TaskOwner

SUFFIX = ".sock"
RESCAN_S = 1.0
REDIAL = RestartPolicy(first_s=0.02, ceiling_s=0.25, window_s=5.0)
_log = logging.getLogger("rdv.dial")

Serve = Callable[[FramesSubscription], Awaitable[None]]


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
    """Keeps seats taken at every gateway whose socket is in `folder`. on_change: called when a line's state changed."""

    owner: TaskOwner
    folder: Path
    seats: list[Seat]
    on_change: Callable[[], None] = lambda: None
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    open: list[FramesSubscription] = field(default_factory=list)

    def start(self) -> None:
        """Begin; needs a started owner. The subscriptions are left when the owner stops."""
        self.owner.on_stop("leave the gateways", flush=self.leave)
        self.owner.task("gateways", self._notice)

    async def leave(self) -> None:
        """Close every subscription, after what was sent has been handed over."""
        for subscription in list(self.open):
            await subscription.close()

    async def _notice(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        with FolderWatch(self.folder) as watch:

            def told() -> None:
                watch.drain()
                changed.set()

            loop.add_reader(watch.fileno(), told)
            try:
                while True:
                    self._dial_new()
                    changed.clear()
                    try:
                        async with asyncio.timeout(RESCAN_S):
                            await changed.wait()
                    except TimeoutError:
                        continue
            finally:
                loop.remove_reader(watch.fileno())

    def _dial_new(self) -> None:
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            for seat in self.seats:
                if (seat.name, path.name) not in self.lines:
                    line = self.lines[seat.name, path.name] = Line(seat.name, path.stem)
                    self.owner.spawn(f"{seat.name} at {path.stem}", self._keep(seat, path, line))

    async def _keep(self, seat: Seat, path: Path, line: Line) -> None:
        """Hold one seat at one gateway for as long as its socket is there."""
        failures: list[float] = []
        now = asyncio.get_running_loop().time
        try:
            while path.exists():
                try:
                    await self._sit(seat, path, line)
                except Exception as error:  # whatever one gateway does, the others are served on
                    self._tell(line, False, str(error) or type(error).__name__)
                failures = [*failures[-8:], now()]
                again = after_death(REDIAL, failures, now(), random.random(), line.refused)
                assert isinstance(again, Again)
                await asyncio.sleep(again.after_s)
        finally:
            self.lines.pop((seat.name, path.name), None)
            self.on_change()

    async def _sit(self, seat: Seat, path: Path, line: Line) -> None:
        subscription = await subscribe(path, seat.identity())
        self.open.append(subscription)
        self._tell(line, True, "")
        try:
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
