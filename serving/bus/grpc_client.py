"""A subscriber's end of the bus between hosts (see `bus.proto`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc.aio

from rdv.errors import BusError, TimedOut, Unreachable
from rdv.serving.bus import proto
from rdv.serving.bus.codec import MAX_FRAME_BYTES
from rdv.serving.bus.grpc_wire import END, gateway_name, limits_of_both
from rdv.serving.bus.inbox import Inbox
from rdv.serving.bus.port import Batch, Identity, Scores
from rdv.supervise import handle

HANDSHAKE_S = 5.0
_BROKEN = (grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError)
_GONE = "the hub is gone"
# a connection a seat, given up as soon as we do: whoever dials decides when to try again
_OWN = (("grpc.use_local_subchannel_pool", 1), ("grpc.min_reconnect_backoff_ms", round(HANDSHAKE_S * 1e3)))


async def subscribe(
    address: str,
    identity: Identity,
    credentials: grpc.ChannelCredentials | None = None,
    domain: str = "",
    max_frame_bytes: int = MAX_FRAME_BYTES,
    monotonic: Callable[[], float] = time.monotonic,
) -> GrpcSubscription:
    """Join the hub at an address (`host:port`) under an identity.

    credentials: None for plain text. domain: the gateway's certificate must bear `gateway.DOMAIN`; empty: its host.
    BusError: refused, with the hub's reason. Unreachable: nobody there, or no certificate that both take. TimedOut: no
    welcome within 5 s.
    """
    options: list[tuple[str, Any]] = [*limits_of_both(max_frame_bytes), *_OWN]
    if domain:
        options.append(("grpc.ssl_target_name_override", gateway_name(domain)))
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options=options)
    else:
        channel = grpc.aio.secure_channel(address, credentials, options=options)
    call = channel.stream_stream(proto.METHOD)()
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            gateway = await _welcomed(call, identity, address)
    except TimeoutError:
        await channel.close()
        raise TimedOut(f"the hub at {address} did not welcome us within {HANDSHAKE_S} s") from None
    except BaseException:
        await channel.close()
        raise
    return GrpcSubscription(channel, call, gateway, Inbox(identity.credit), monotonic)


async def _welcomed(call: Any, identity: Identity, address: str) -> str:
    try:
        await call.write(proto.encode_hello(identity))
        data = await call.read()
    except _BROKEN:
        data = END
    if data is not END:
        return proto.decode_welcome(data)
    problem = await _ending(call)
    if problem.what.startswith(_GONE):
        raise Unreachable(f"no gateway can be had at {address}: {problem.what}", "is it running, with the same CA?")
    raise problem


async def _ending(call: Any) -> BusError:
    """Why a stream has ended, in our words."""
    code, details = await call.code(), await call.details() or ""
    if code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
        return _gone()
    if code is grpc.StatusCode.UNAVAILABLE and not details.startswith("the hub is"):
        return _gone(f" ({details})")
    return BusError(details or f"the stream ended with {code.name}")


def _gone(why: str = "") -> BusError:
    return BusError(f"{_GONE}{why}", "reconnect when the gateway is back")


class GrpcSubscription:
    """A subscriber's end of a GrpcHub; `gateway` is the hub's return address."""

    def __init__(self, channel: Any, call: Any, gateway: str, inbox: Inbox, monotonic: Callable[[], float]) -> None:
        self.gateway = gateway
        self._channel, self._call, self._inbox, self._monotonic = channel, call, inbox, monotonic
        self._outgoing: deque[bytes] = deque()
        self._work = asyncio.Event()
        self._leaving = False
        loop = asyncio.get_running_loop()
        self._reader, self._writer = handle(loop, self._read()), handle(loop, self._write())

    async def receive(self) -> list[Batch]:
        """All batches that have arrived since the last call, at least one; BusError when the hub is gone."""
        return await self._inbox.receive()

    def send(self, scores: Scores) -> None:
        """Answer one received batch."""
        self._inbox.answered()
        self._outgoing.append(proto.encode_scores(scores))
        self._work.set()

    def announce(self, version: str) -> None:
        """Tell the hub which version is served from now on."""
        if not self._inbox.ended:
            self._outgoing.append(proto.encode_announce(version))
            self._work.set()

    async def close(self) -> None:
        """Leave, after what was sent has been handed over; batches not answered are counted as dropped."""
        self._inbox.end(BusError("this subscription is closed"))
        self._leaving = True
        self._work.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDSHAKE_S):
                await asyncio.wait((self._reader, self._writer))
        self._reader.cancel()
        self._writer.cancel()
        await self._channel.close()

    async def _read(self) -> None:
        inbox = self._inbox
        try:
            await self._take_in()
        except BusError as error:
            inbox.end(error)
            self._call.cancel()
        except _BROKEN:
            inbox.end(await _ending(self._call))
        finally:
            inbox.end(_gone())
            self._leaving = True  # there is nobody left to write to
            self._work.set()

    async def _take_in(self) -> None:
        read, inbox, now = self._call.read, self._inbox, self._monotonic
        while (data := await read()) is not END:
            if not inbox.ended:
                inbox.put(proto.decode_batch(data, now()))

    async def _write(self) -> None:
        outgoing, write = self._outgoing, self._call.write
        with contextlib.suppress(*_BROKEN):
            while True:
                while outgoing:
                    await write(outgoing.popleft())
                if self._leaving:
                    break
                self._work.clear()
                await self._work.wait()
            await self._call.done_writing()
