"""The gateway's end of the bus between hosts: a gRPC server with one stream a seat (see `bus.proto`).

A stream has a reader and a writer: what waits for a subscriber that stops reading is at most its credit of batches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc.aio

from rdv.addresses import address
from rdv.clock import Clock, SystemClock
from rdv.errors import BusError, ConfigError
from rdv.serving.bus import proto
from rdv.serving.bus.codec import MAX_HELLO_BYTES
from rdv.serving.bus.exchange import Exchange, Limits
from rdv.serving.bus.grpc_wire import END, limits_of_both, within
from rdv.serving.bus.port import Identity, OnLost, OnScores

REASON_CHARS = 1000
HANDSHAKE_MS, IDLE_MS = 10_000, 60_000
_Code = grpc.StatusCode
# what reading and writing raise once the stream is over, for whatever reason
_OVER = (grpc.aio.AbortError, grpc.aio.UsageError, grpc.aio.InternalError)


class GrpcHub(Exchange):
    """A hub that subscribers on other hosts dial; `gateway` is the return address that it tells them.

    domain: subscribers' certificates must bear a name below it; empty: any of the certificate authority's will do.
    compress_bytes: from which size on a batch is compressed, 0: never.
    """

    def __init__(
        self,
        gateway: str,
        on_scores: OnScores,
        on_lost: OnLost = lambda topic, name, ids, reason: None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        clock: Clock = SystemClock(),  # noqa: B008 - stateless
        on_refused: Callable[[str], None] = lambda reason: None,
        domain: str = "",
        compress_bytes: int = 0,
    ) -> None:
        super().__init__(on_scores, on_lost, limits, clock, lambda batch: proto.encode_batch(batch, clock.monotonic()))
        self.gateway, self.on_refused, self.domain = gateway, on_refused, domain
        self.monotonic, self.compress_bytes = clock.monotonic, compress_bytes
        self.seats: set[_Seat] = set()
        self.emptied = asyncio.Event()
        self._server: Any = None

    async def listen(self, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> int:
        """Take subscribers on this address from now on; the port, which is any free one for 0.

        credentials: None for plain text. ConfigError when the address cannot be had.
        """
        self.later = asyncio.get_running_loop().call_later
        server = grpc.aio.server(options=_options(self.limits), maximum_concurrent_rpcs=2 * self.limits.connections + 8)
        seat = grpc.stream_stream_rpc_method_handler(self._serve)
        service, method = proto.METHOD.strip("/").split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: seat}),))
        place = address(host, port)
        try:
            if credentials is None:
                bound: int = server.add_insecure_port(place)
            else:
                bound = server.add_secure_port(place, credentials)
        except RuntimeError:
            bound = 0
        if not bound:
            raise ConfigError(f"the bus cannot listen on {place}", "choose another with `--set serve.bus_port=...`")
        await server.start()
        self._server = server
        return bound

    async def close(self) -> None:
        """Send what is waiting as far as credit allows, then disconnect everybody and stop listening."""
        await self.settle()
        for seat in list(self.seats):
            seat.part(_Code.UNAVAILABLE, "the hub is closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.linger_s):
                while self.seats:
                    self.emptied.clear()
                    await self.emptied.wait()
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def _serve(self, _: Any, context: Any) -> None:
        seat = _Seat(self, context)
        self.seats.add(seat)
        try:
            await seat.run()
        finally:
            self.left(seat)
            self.seats.discard(seat)
            self.emptied.set()


class _Seat:
    """One stream, as the hub sees it."""

    def __init__(self, hub: GrpcHub, context: Any) -> None:
        self._hub, self._context = hub, context
        self._identity: Identity | None = None
        self._outgoing: deque[bytes] = deque()
        self._work = asyncio.Event()
        self._parting: tuple[grpc.StatusCode, str] | None = None

    def send(self, data: bytes) -> None:
        """Hand one encoded batch to the writer, which holds at most the replica's credit of them."""
        self._outgoing.append(data)
        self._work.set()

    def part(self, code: grpc.StatusCode, reason: str) -> None:
        """Have the stream end with this status once everything before it is written."""
        if self._parting is None:
            self._parting = code, reason[:REASON_CHARS]
            self._hub.left(self)
            self._work.set()

    async def run(self) -> None:
        """Serve the stream until the subscriber leaves or is parted with."""
        try:
            async with asyncio.timeout(self._hub.limits.hello_s):
                await self._greet()
        except TimeoutError:
            self._refuse(_Code.DEADLINE_EXCEEDED, f"no hello within {self._hub.limits.hello_s} s")
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write())
            if self._parting is None:
                await self._read()
            if self._parting is None:
                writer.cancel()  # the subscriber has left
                return
            # a subscriber that does not read would keep a parting stream open for ever
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._hub.limits.hello_s):
                    await asyncio.shield(writer)
            writer.cancel()

    async def _greet(self) -> None:
        hub, data = self._hub, await self._next()
        if data is END:
            return self._refuse(_Code.INVALID_ARGUMENT, "the stream ended without a hello")
        if stranger := _stranger(self._context, hub.domain):
            return self._refuse(_Code.PERMISSION_DENIED, stranger)
        try:
            if len(data) > MAX_HELLO_BYTES:
                raise BusError(f"a hello of {len(data)} bytes is refused (at most {MAX_HELLO_BYTES})")
            identity = proto.decode_hello(data)
        except BusError as error:
            return self._refuse(_Code.INVALID_ARGUMENT, str(error))
        try:
            hub.join(identity, self)
        except BusError as error:
            return self._refuse(_Code.FAILED_PRECONDITION, str(error))
        self._identity = identity
        hub.pump(self)

    async def _read(self) -> None:
        hub = self._hub
        while True:
            data = await self._next()
            if data is END or self._parting is not None:
                return
            try:
                told = proto.decode_answer(data)
                if isinstance(told, str):
                    hub.announced(self, told)
                else:
                    hub.answered(self, told)
            except BusError as error:
                return self._refuse(_Code.INVALID_ARGUMENT, str(error))

    async def _next(self) -> Any:
        try:
            return await self._context.read()
        except _OVER:
            return END

    async def _write(self) -> None:
        with contextlib.suppress(*_OVER):
            await self._hand_over()

    async def _hand_over(self) -> None:
        outgoing, write, now = self._outgoing, self._context.write, self._hub.monotonic
        context, large = self._context, self._hub.compress_bytes
        if large:
            context.set_compression(grpc.Compression.Gzip)
        if self._identity is not None:
            await write(proto.encode_welcome(self._hub.gateway))
        while True:
            while outgoing:
                data = proto.stamped(outgoing.popleft(), now())
                if large and len(data) < large:
                    context.disable_next_message_compression()
                await write(data)
            if self._parting is not None:
                break
            self._work.clear()
            await self._work.wait()
        await self._context.abort(*self._parting)

    def _refuse(self, code: grpc.StatusCode, reason: str) -> None:
        who = f"{self._identity.name}/{self._identity.replica}: " if self._identity else ""
        self._hub.on_refused(who + reason)
        self.part(code, reason)


def _options(limits: Limits) -> list[tuple[str, int]]:
    """What the server bounds beside what an exchange does: connections, their handshakes, and silence."""
    return [
        *limits_of_both(max(limits.max_frame_bytes, MAX_HELLO_BYTES)),
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", limits.connections),
        ("grpc.max_allowed_incoming_connections", 2 * limits.connections),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.max_connection_idle_ms", IDLE_MS),
    ]


def _stranger(context: Any, domain: str) -> str:
    """Why the subscriber's certificate will not do; empty when it does."""
    if not domain:
        return ""
    told = context.auth_context().get("x509_subject_alternative_name", ())
    names = [name.decode("utf-8", "replace") for name in told]
    if any(within(name, domain) for name in names):
        return ""
    return f"a certificate of {', '.join(names) or 'no name'} is not one of {domain}"
