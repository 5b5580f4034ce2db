"""The HTTP edge: the one file that knows the server we use (granian, embedded, RSGI), behind types of our own.

It adds what the server does not give: a cap and a deadline for bodies, a bound on requests in flight, a fixed list
of paths and methods, and refusals that end the connection. The listening socket is ours, so that its port is known,
nobody can share it, and a unix socket is 0600 wherever it lies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import dataclass
from typing import Any

from granian._granian import RSGIHTTPProtocol, RSGIProtocolClosed, SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.rsgi import Scope
from granian.server.embed import Server as GranianServer

from rdv.ids import message_ids
from rdv.serving.http_guards import CHUNKED, Admission, check, find
from rdv.serving.http_types import App, Refusal, Reply

_log = logging.getLogger("rdv.http")
_LOOKS = 8
HANG_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one listener takes: size and time of a body and of headers, requests in flight, connections."""

    body_bytes: int = 65536
    body_s: float = 2.0
    header_ms: int = 5000
    header_bytes: int = 16384
    in_flight: int = 1024
    per_client: int = 1024
    connections: int = 4096
    backlog: int = 2048


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


class HttpServer:
    """One listener that serves an application until it is stopped."""

    def __init__(self, app: App, sock: socket.socket, bounds: Bounds) -> None:
        """sock: bound and listening; it is taken over and closed at the end."""
        self.admission = Admission(bounds.in_flight, bounds.per_client)
        self._app, self._routes, self._bounds = app, app.routes(), bounds
        self._new_id = message_ids()
        self._reading = _Patience(bounds.body_s)
        self._server = _Granian(self._rsgi, sock, bounds)

    @property
    def reading(self) -> int:
        """Requests whose body is being read: they will be handled within a moment, or are refused."""
        return len(self._reading)

    async def serve(self) -> None:
        """Serve until `stop`; returns when no connection is left."""
        try:
            await self._server.run()
        finally:
            self._reading.close()

    def stop(self, limit_s: float) -> None:
        """Take no connection any more, finish the requests in flight for at most limit_s, hang up on the rest."""
        self._server.end(limit_s)

    async def _rsgi(self, scope: Scope, proto: RSGIHTTPProtocol) -> None:
        try:
            reply = await self._serve(scope, proto)
        except Refusal as refusal:
            self._app.refused(refusal.status)
            reply = refusal.reply(self._new_id().hex())
        except RSGIProtocolClosed:
            return
        except Exception as error:
            self._app.refused(500)
            request_id = self._new_id().hex()
            _log.exception("request %s failed: %s", request_id, error)
            reply = Refusal(500, "internal", "something went wrong here").reply(request_id)
        proto.response_bytes(reply.status, reply.headers, reply.body)

    async def _serve(self, scope: Scope, proto: RSGIHTTPProtocol) -> Reply:
        route = find(self._routes, scope.method, scope.path)
        length = check(scope.headers.items(), scope.authority, route.takes_body, self._bounds.body_bytes)
        if not route.admit:
            return await route.handle(await self._body(proto, length))
        admission = self.admission
        key = admission.admit(scope)
        try:
            return await route.handle(await self._body(proto, length))
        finally:
            admission.release(key)

    async def _body(self, proto: RSGIHTTPProtocol, length: int) -> bytes:
        if not length:
            return b""
        task: Any = asyncio.current_task()
        self._reading.begin(task)
        try:
            if length == CHUNKED:
                return await self._chunks(proto)
            return await proto()
        except asyncio.CancelledError:
            if not self._reading.overdue(task):
                raise
            raise Refusal(408, "body_timeout", "the body did not arrive in time") from None
        except RSGIProtocolClosed:
            raise _bad_body() from None
        finally:
            self._reading.end(task)

    async def _chunks(self, proto: RSGIHTTPProtocol) -> bytes:
        most = self._bounds.body_bytes
        chunks: list[bytes] = []
        size, ended = 0, False
        async for chunk in proto:
            # a whole body ends with one empty chunk, a broken one with two: nothing else tells them apart
            if ended:
                raise _bad_body()
            ended = not chunk
            size += len(chunk)
            chunks.append(chunk)
            if size > most or len(chunks) > 64 + most // 256:
                raise Refusal(413, "too_large", f"the body may have {most} bytes, in few chunks")
        return b"".join(chunks)


def _bad_body() -> Refusal:
    return Refusal(400, "bad_body", "the body is malformed or was cut off")


class _Patience:
    """Ends the tasks that have been reading a body for too long; one timer for all, none when nobody reads."""

    __slots__ = ("_limit_s", "_overdue", "_since", "_timer")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, task: asyncio.Task[Any]) -> None:
        self._since[task] = time.monotonic()
        if self._timer is None:
            self._arm(task)

    def end(self, task: asyncio.Task[Any]) -> None:
        self._since.pop(task, None)

    def close(self) -> None:
        """End every task that is still reading, and the timer."""
        for task in self._since:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def overdue(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task was cancelled because of its body, and nobody else wants it cancelled."""
        if task not in self._overdue:
            return False
        self._overdue.discard(task)
        return task.uncancel() == 0

    def _arm(self, task: asyncio.Task[Any]) -> None:
        self._timer = task.get_loop().call_later(self._limit_s / _LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        limit = time.monotonic() - self._limit_s
        for task, since in list(self._since.items()):  # in order of their beginning
            if since > limit:
                self._arm(task)
                return
            del self._since[task]
            self._overdue.add(task)
            task.cancel()


class _Granian(GranianServer):
    """granian's embedded server on a socket that is bound already; it calls itself experimental, tests hold it."""

    def __init__(self, app: Any, sock: socket.socket, bounds: Bounds) -> None:
        super().__init__(
            app,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            websockets=False,
            backlog=bounds.backlog,
            backpressure=bounds.connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=bounds.header_ms, max_buffer_size=max(8192, bounds.header_bytes)
            ),
            log_enabled=False,
        )
        self._taken = sock

    def _init_shared_socket(self) -> None:
        is_unix = self._taken.family == socket.AF_UNIX
        self._taken.setblocking(False)
        make: Any = SocketHolder  # its stub does not know that it can be made
        self._shd: Any = make(self._taken.detach(), is_unix, self.backlog)
        self._ssp = None

    async def run(self) -> None:
        try:
            # its own stop cancels a worker that overran its limit and lets the timeout escape
            with contextlib.suppress(TimeoutError):
                await self.serve()
        finally:
            await self._hang_up()

    async def _hang_up(self) -> None:
        """End what is left when this task was cancelled: the server would leave its own tasks behind."""
        workers: list[Any] = self.wrks[:]
        self.wrks.clear()
        self._shd = None
        for worker in workers:
            worker.terminate()
        tasks = [worker._task for worker in workers]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=HANG_UP_S)
            for task in late:
                task.cancel()

    def end(self, limit_s: float) -> None:
        self.workers_kill_timeout: Any = limit_s
        interrupt: Any = self.signal_handler_interrupt
        interrupt()
