"""The HTTP edge: connections on one listening socket, their bounds in number and time, and how they end.

What a connection does with its bytes is in `http.connection`, which alone knows the parser. The listening socket is
ours, so that its port is known, nobody can share it, and a unix socket is 0600 wherever it lies.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from rdv.ids import message_ids
from rdv.serving.http.connection import Connection
from rdv.serving.http.guards import Admission
from rdv.serving.http.types import App

HANG_UP_S = 1.0
"""How long a connection that has been told to end may take to do so."""
WRITE_S = 10.0
"""How long a client may leave its answers unread."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one listener takes: size and time of a body and of headers, requests in flight, connections.

    idle_s: how long a connection may stay without a request; sooner when others want its place.
    """

    body_bytes: int = 65536
    body_s: float = 2.0
    header_ms: int = 5000
    header_bytes: int = 16384
    in_flight: int = 1024
    per_client: int = 1024
    connections: int = 4096
    backlog: int = 2048
    idle_s: float = 75.0


def listening_socket(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """A TCP socket that listens on a host and port (0: any free one) and that no other process can share."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


class Patience:
    """How long connections may stay in one state; the moments at which it is over, in order."""

    __slots__ = ("limit_s", "over", "until")

    def __init__(self, limit_s: float, over: Callable[[Connection], None]) -> None:
        self.limit_s, self.over = limit_s, over
        self.until: dict[Connection, float] = {}


class HttpServer:
    """One listener that serves an application until it is stopped."""

    def __init__(self, app: App, sock: socket.socket, bounds: Bounds) -> None:
        """sock: bound and listening; it is taken over and closed at the end."""
        self.admission = Admission(bounds.in_flight, bounds.per_client)
        self.app, self.routes, self.bounds = app, app.routes(), bounds
        self.new_id = message_ids()
        self.ending = False
        self.starting = 0
        self.idle = Patience(bounds.idle_s, Connection.hang_up)
        self.head = Patience(bounds.header_ms / 1e3, Connection.hang_up)
        self.body = Patience(bounds.body_s, Connection.body_is_late)
        self.unread = Patience(WRITE_S, Connection.abort)
        self.parting = Patience(HANG_UP_S, Connection.abort)
        self._patiences = (self.idle, self.head, self.body, self.unread, self.parting)
        self._sock = sock
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._stopped = asyncio.Event()
        self._limit_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = math.inf

    @property
    def reading(self) -> int:
        """Requests that are on their way in: they will be handled within a moment, or are refused."""
        return len(self.body.until) + self.starting

    async def serve(self) -> None:
        """Serve until `stop`; returns when no connection is left."""
        self.loop = asyncio.get_running_loop()
        is_unix = self._sock.family == socket.AF_UNIX
        listen = self.loop.create_unix_server if is_unix else self.loop.create_server
        server = await listen(lambda: Connection(self), sock=self._sock, backlog=self.bounds.backlog)
        try:
            await self._stopped.wait()
            server.close()
            await self._leave(self._limit_s)
        finally:
            server.close()
            await self._hang_up()

    def stop(self, limit_s: float) -> None:
        """Take no connection any more, finish the requests in flight for at most limit_s, hang up on the rest."""
        self.ending, self._limit_s = True, limit_s
        self._stopped.set()

    def opened(self, connection: Connection) -> bool:
        """Take a new connection in, if need be for the one that has been idle for longest; False: there is no room."""
        if len(self._connections) >= self.bounds.connections:
            oldest = next(iter(self.idle.until), None)
            if oldest is None:
                return False
            self.rest(oldest)
            oldest.abort()
        self._connections.add(connection)
        self._empty.clear()
        return True

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.rest(connection)
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def watch(self, connection: Connection, patience: Patience) -> None:
        """Have a connection looked at when it is in this state, and no other, for too long."""
        self.rest(connection)
        connection.patience = patience
        until = patience.until[connection] = time.monotonic() + patience.limit_s
        if until < self._look_at:
            self._arm(until)

    def rest(self, connection: Connection) -> None:
        """Look at a connection no more."""
        if connection.patience is not None:
            connection.patience.until.pop(connection, None)
            connection.patience = None

    def _arm(self, moment: float) -> None:
        """Look again at a moment; one timer for all connections, none when nobody is waited for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._look_at = moment
        if moment < math.inf:
            self._timer = self.loop.call_later(max(0.0, moment - time.monotonic()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        for patience in self._patiences:
            while (connection := _first(patience.until, now)) is not None:
                self.rest(connection)
                patience.over(connection)
        self._arm(min((next(iter(one.until.values())) for one in self._patiences if one.until), default=math.inf))

    async def _leave(self, limit_s: float) -> None:
        """Have every connection end after the request that it is at."""
        for connection in list(self._connections):
            connection.finish()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._empty.wait()

    async def _hang_up(self) -> None:
        """End what is left; nothing of it outlives this."""
        tasks = [one.task for one in self._connections if one.task is not None]
        for task in tasks:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=HANG_UP_S)
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HANG_UP_S):
                    await self._empty.wait()
        self._arm(math.inf)
        for patience in self._patiences:
            patience.until.clear()


def _first(until: dict[Connection, float], now: float) -> Connection | None:
    """The connection that has waited for longest, when its moment has come; they are in order of their moments."""
    for connection, moment in until.items():
        return connection if moment <= now else None
    return None
