"""The bus between processes of one host: length-prefixed binary frames over a unix socket.

One frame and one write per publish and subscriber; a subscriber that stops reading has at most its credit of
frames in the socket and in this process's write buffer. Nothing here starts a task: it is all callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from rdv.clock import Clock, SystemClock
from rdv.errors import BusError, TimedOut, Unreachable
from rdv.serving.bus import codec
from rdv.serving.bus.exchange import Exchange, Limits
from rdv.serving.bus.inbox import Inbox
from rdv.serving.bus.port import Batch, Identity, OnLost, OnScores, Scores
from rdv.sockets import bound_unix_socket, connected_unix_socket

HANDSHAKE_S = 5.0


class FramesHub(Exchange):
    """A hub on a 0600 unix socket; `gateway` is the return address that it tells its subscribers."""

    def __init__(
        self,
        gateway: str,
        on_scores: OnScores,
        on_lost: OnLost = lambda topic, name, ids, reason: None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        clock: Clock = SystemClock(),  # noqa: B008 - stateless
        on_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        super().__init__(on_scores, on_lost, limits, clock)
        self.gateway, self.on_refused = gateway, on_refused
        self.connections: set[_HubSide] = set()
        self.emptied = asyncio.Event()
        self._server: asyncio.AbstractServer | None = None
        self._path: Path | None = None

    async def listen(self, path: Path) -> None:
        """Take subscribers on this socket from now on."""
        sock = bound_unix_socket(path)
        self._path = path
        loop = asyncio.get_running_loop()
        self.later = loop.call_later
        self._server = await loop.create_unix_server(lambda: _HubSide(self), sock=sock)

    async def close(self) -> None:
        """Send what is waiting as far as credit allows, then disconnect everybody and remove the socket."""
        if self._server is not None:
            self._server.close()
        await self.settle()
        for connection in list(self.connections):
            connection.part("the hub is closed")
        self.emptied.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.linger_s):
                while self.connections:
                    self.emptied.clear()
                    await self.emptied.wait()
        for connection in list(self.connections):
            connection.abort()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class _HubSide(asyncio.Protocol):
    """One connection, as the hub sees it."""

    def __init__(self, hub: FramesHub) -> None:
        self._hub = hub
        self._reader = codec.FrameReader(codec.MAX_HELLO_BYTES)
        self._identity: Identity | None = None
        self._parting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._hub.connections.add(self)
        self._patience = asyncio.get_running_loop().call_later(self._hub.limits.hello_s, self._impatient)

    def data_received(self, data: bytes) -> None:
        if self._parting:
            return
        try:
            for kind, payload in self._reader.feed(data):
                self._take(kind, payload)
        except BusError as error:
            self._refuse(str(error))

    def _take(self, kind: int, payload: bytes) -> None:
        hub = self._hub
        if self._identity is None:
            self._greet(kind, payload)
        elif kind == codec.SCORES:
            hub.answered(self, codec.decode_scores(payload))
        elif kind == codec.ANNOUNCE:
            hub.announced(self, codec.decode_text(payload))
        else:
            raise BusError(f"frame of unexpected kind {kind}", "both ends must run the same version of rdv")

    def _greet(self, kind: int, payload: bytes) -> None:
        if kind != codec.HELLO:
            raise BusError("the first frame must be a hello", "both ends must run the same version of rdv")
        identity = codec.decode_hello(payload)
        self._hub.join(identity, self)
        self._identity = identity
        self._patience.cancel()
        self._reader.max_bytes = self._hub.limits.max_frame_bytes
        self._transport.write(codec.encode_welcome(self._hub.gateway))
        self._hub.pump(self)

    def send(self, data: bytes) -> None:
        """Hand one encoded frame to the transport, which holds at most the replica's credit of them."""
        self._transport.write(data)

    def _impatient(self) -> None:
        self._refuse(f"no hello within {self._hub.limits.hello_s} s")

    def _refuse(self, reason: str) -> None:
        who = f"{self._identity.name}/{self._identity.replica}: " if self._identity else ""
        self._hub.on_refused(who + reason)
        self.part(reason)

    def part(self, reason: str) -> None:
        """Tell the subscriber why, then close; frames that it has not answered are dropped now."""
        if self._parting:
            return
        self._parting = True
        self._hub.left(self)
        self._transport.write(codec.encode_text(codec.REFUSED, reason))
        self._transport.close()
        self._patience.cancel()
        # a subscriber that does not read would keep a closing transport open for ever
        self._patience = asyncio.get_running_loop().call_later(self._hub.limits.hello_s, self.abort)

    def abort(self) -> None:
        """Close at once, whatever was not sent."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        self._hub.left(self)
        self._hub.connections.discard(self)
        self._hub.emptied.set()


async def subscribe(path: Path, identity: Identity, max_frame_bytes: int = codec.MAX_FRAME_BYTES) -> FramesSubscription:
    """Join the hub on this socket under an identity.

    BusError: refused, with the hub's reason. Unreachable: nobody listens there. TimedOut: no welcome within 5 s.
    """
    loop = asyncio.get_running_loop()
    sock = connected_unix_socket(path)
    try:
        _, side = await loop.create_unix_connection(lambda: _SubscriberSide(identity, max_frame_bytes), sock=sock)
    except OSError as error:
        sock.close()
        raise Unreachable(f"bus socket {path} failed: {error.strerror or error}", "is the gateway running?") from error
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            gateway = await side.welcomed
    except TimeoutError:
        side.abort()
        raise TimedOut(f"the hub on {path} did not welcome us within {HANDSHAKE_S} s") from None
    except BaseException:
        side.abort()
        raise
    return FramesSubscription(side, gateway)


class _SubscriberSide(asyncio.Protocol):
    """One connection, as the subscriber sees it."""

    def __init__(self, identity: Identity, max_frame_bytes: int) -> None:
        self._identity = identity
        self._reader = codec.FrameReader(max_frame_bytes)
        self.inbox = Inbox(identity.credit)
        self.welcomed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(codec.encode_hello(self._identity))

    def data_received(self, data: bytes) -> None:
        if self.inbox.ended:
            return
        try:
            for kind, payload in self._reader.feed(data):
                self._take(kind, payload)
        except BusError as error:
            self._end(error)
            self.transport.close()

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == codec.REFUSED:
            raise BusError(codec.decode_text(payload))
        if self.welcomed.done():
            self.inbox.put(codec.decode_batch(kind, payload))
        elif kind == codec.WELCOME:
            self.welcomed.set_result(codec.decode_welcome(payload).gateway)
        else:
            raise BusError(f"frame of kind {kind} where a welcome was due")

    def _end(self, error: BusError) -> None:
        self.inbox.end(error)
        if not self.welcomed.done():
            self.welcomed.set_exception(error)

    def abort(self) -> None:
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BusError("the hub is gone", "reconnect when the gateway is back"))
        if self.welcomed.done() and not self.welcomed.cancelled():
            self.welcomed.exception()  # marks it as retrieved when nobody waited for it
        self.closed.set()


class FramesSubscription:
    """A subscriber's end of a FramesHub; `gateway` is the hub's return address."""

    def __init__(self, side: _SubscriberSide, gateway: str) -> None:
        self.gateway = gateway
        self._side = side

    async def receive(self) -> list[Batch]:
        """All frames that have arrived since the last call, at least one; BusError when the hub is gone."""
        return await self._side.inbox.receive()

    def send(self, scores: Scores) -> None:
        """Answer one received frame."""
        self._side.inbox.answered()
        self._side.transport.write(codec.encode_scores(scores))

    def announce(self, version: str) -> None:
        """Tell the hub which version is served from now on."""
        if not self._side.inbox.ended:
            self._side.transport.write(codec.encode_text(codec.ANNOUNCE, version))

    async def close(self) -> None:
        """Leave, after what was sent has been handed over; frames not answered are counted as dropped."""
        self._side.inbox.end(BusError("this subscription is closed"))
        self._side.transport.close()
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._side.closed.wait()
        except TimeoutError:
            self._side.abort()
