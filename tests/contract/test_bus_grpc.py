"""What the gRPC adapter owes beyond the bus contract: it faces other hosts, and bytes that nobody vouches for."""

import asyncio
import os
import signal
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
import uvloop

from rdv.errors import BusError, TimedOut, Unreachable
from rdv.inputs import RowSchema
from rdv.serving.bus import proto
from rdv.serving.bus.exchange import Limits
from rdv.serving.bus.grpc_client import subscribe
from rdv.serving.bus.grpc_hub import GrpcHub
from rdv.serving.bus.port import NO_DEADLINE, Identity, Requests

SCHEMA = RowSchema(("age",))
ME = Identity("visit", "champion", "r1", "v1", SCHEMA)
LIMITS = Limits(max_frame_bytes=5000, hello_s=0.3, linger_s=0.05, connections=4)
HANG_S = 60.0
CODES = grpc.StatusCode

Scenario = Callable[[GrpcHub, str], Awaitable[None]]
Run = Callable[[Scenario], list[str]]


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    """Run something in a loop of its own, bounded in time."""

    async def bounded() -> None:
        async with asyncio.timeout(HANG_S):
            await work()
            while len(asyncio.all_tasks()) > 1:  # the library's own end a moment later
                await asyncio.sleep(0.001)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


@pytest.fixture
def run() -> Run:
    """A function that runs a scenario against a listening hub, and returns the reasons of its refusals."""

    def running(scenario: Scenario) -> list[str]:
        refused: list[str] = []

        async def within() -> None:
            hub = GrpcHub("gw-1", lambda *_: None, limits=LIMITS, on_refused=refused.append)
            hub.expect("visit", SCHEMA, ["champion"])
            port = await hub.listen("127.0.0.1", 0)
            await scenario(hub, f"127.0.0.1:{port}")
            await hub.close()

        in_loop(within)
        return refused

    return running


def request(n: int = 1, size: int = 1) -> Requests:
    doubles = struct.pack(f"<{n}d", *[NO_DEADLINE] * n)
    return Requests("visit", "gw-1", n, os.urandom(16 * n), doubles, doubles, bytes(8 * n), doubles * size)


async def talk(address: str, *messages: bytes, finish: bool = False) -> tuple[grpc.StatusCode, str]:
    """Send raw messages to a hub, read until it ends the stream: the status and what it says."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(proto.METHOD)()
        try:
            for message in messages:
                await call.write(message)
            if finish:
                await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass
        return await call.code(), await call.details()


def hello(**change: Any) -> bytes:
    told = proto._FromSubscriber.FromString(proto.encode_hello(Identity("visit", "m", "r", "v", SCHEMA)))
    for name, value in change.items():
        setattr(told.hello, name, value)
    data: bytes = told.SerializeToString()
    return data


BAD, NOT_TAKEN = CODES.INVALID_ARGUMENT, CODES.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ((hello(protocol=2),), BAD, "protocol 2 is not ours"),
        ((hello(protocol=0),), BAD, "protocol 0 is not ours"),
        ((b"\xff\xff\xff",), BAD, "malformed message"),
        ((b"",), BAD, "must be a hello"),
        ((proto.encode_announce("v2"),), BAD, "must be a hello"),
        ((hello(name="x" * (1 << 20)),), BAD, "is refused"),
        ((hello(credit=0),), NOT_TAKEN, "credit 0"),
        ((hello(topic="nowhere"),), NOT_TAKEN, "no topic 'nowhere'"),
        ((), CODES.DEADLINE_EXCEEDED, "no hello within"),
        ((hello(), hello()), BAD, "unexpected kind hello"),
        ((hello(), b"\x12\x02\x1a\x05"), BAD, "malformed message"),
        ((hello(), proto.encode_announce("v" * 201)), BAD, "longer than"),
        ((hello(), b"\x12\x05\x1a\x03abc"), BAD, "3 bytes of ids"),
        ((hello(), b"\x12\x00"), BAD, "had no frame"),
    ],
)
def test_malformed_peers_are_refused_with_a_reason(
    run: Run, messages: tuple[bytes, ...], code: grpc.StatusCode, reason: str
) -> None:
    """Whoever breaks the protocol is told why by the status, and reported; the others are served on."""

    async def scenario(hub: GrpcHub, address: str) -> None:
        good = await subscribe(address, ME)
        told, text = await talk(address, *messages)
        assert (told, reason in text) == (code, True), text
        hub.publish(request())
        assert len(await good.receive()) == 1
        assert len(hub.replicas("visit")) == 1
        await good.close()

    assert any(reason in refusal for refusal in run(scenario))


def test_oversized_messages_are_refused(run: Run) -> None:
    """A message that is larger than any may be ends its sender's stream and is never held."""

    async def scenario(hub: GrpcHub, address: str) -> None:
        code, text = await talk(address, hello(), bytes(3 << 20))
        assert code is CODES.RESOURCE_EXHAUSTED, text
        while hub.replicas("visit"):
            await asyncio.sleep(0.001)

    run(scenario)


def test_stream_that_ends_at_once_is_no_subscriber(run: Run) -> None:
    """A stream without any message ends with a reason."""

    async def scenario(hub: GrpcHub, address: str) -> None:
        assert await talk(address, finish=True) == (BAD, "the stream ended without a hello")

    run(scenario)


def test_reader_that_stops_holds_only_its_credit(run: Run) -> None:
    """However much is published, a subscriber that does not read has its credit of batches held, and close ends."""

    async def scenario(hub: GrpcHub, address: str) -> None:
        async with grpc.aio.insecure_channel(address, options=[("grpc.http2.lookahead_bytes", 1024)]) as channel:
            call = channel.stream_stream(proto.METHOD)()
            await call.write(proto.encode_hello(ME))
            while not hub.replicas("visit"):
                await asyncio.sleep(0.001)
            for _ in range(1000):
                hub.publish(request(10))
            traffic = hub.traffic()["visit", "champion"]
            assert (traffic.in_flight, traffic.waiting) == (20, LIMITS.waiting_rows)
            (seat,) = hub.seats
            assert len(seat._outgoing) <= ME.credit
            begun = time.monotonic()
            await hub.close()
            assert (hub.seats, time.monotonic() - begun < HANG_S / 2) == (set(), True)

    run(scenario)


def test_cancelled_stream_frees_its_identity(run: Run) -> None:
    """A subscriber whose stream is cancelled, or whose process ends without a word, is gone, its rows counted."""

    async def scenario(hub: GrpcHub, address: str) -> None:
        for drops in (3, 6):
            subscription = await subscribe(address, ME)
            hub.publish(request(3))
            await subscription.receive()
            subscription._call.cancel()
            while hub.replicas("visit"):
                await asyncio.sleep(0.001)
            assert hub.traffic()["visit", "champion"].drops == {"disconnected": drops}
            with pytest.raises(BusError, match="hub is gone"):
                await subscription.receive()
            await subscription.close()

    run(scenario)


def test_nobody_there_is_unreachable(run: Run) -> None:
    """Joining a hub that does not exist says at which address nobody listens."""

    async def scenario(hub: GrpcHub, address: str) -> None:
        with pytest.raises(Unreachable, match=r"127.0.0.1:1\b"):
            await subscribe("127.0.0.1:1", ME)

    run(scenario)


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_server_of_another_kind_is_no_hub(monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    """Whoever answers in another language, or takes the connection and says nothing, is given up on."""
    monkeypatch.setattr("rdv.serving.bus.grpc_client.HANDSHAKE_S", 1.0)

    async def work() -> None:
        held: list[asyncio.StreamWriter] = []

        def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(says)
            held.append(writer)

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        with pytest.raises((Unreachable, TimedOut)):
            await subscribe(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", ME)
        server.close()
        for one in held:
            one.close()
            await one.wait_closed()

    in_loop(work)


def other_hub(*messages: bytes) -> Any:
    """A server that welcomes everybody with these messages."""

    async def serve(_: Any, context: Any) -> None:
        await context.read()
        for message in messages:
            await context.write(message)
        await context.read()

    handler = grpc.stream_stream_rpc_method_handler(serve)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(f"{proto.PACKAGE}.Bus", {"Subscribe": handler}),)
    )
    return server


async def listen_to(address: str) -> None:
    """Subscribe and receive for as long as that goes."""
    subscription = await subscribe(address, ME)
    try:
        while True:
            await subscription.receive()
    finally:
        await subscription.close()


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((proto.stamped(proto.encode_batch(request(), 0.0), 0.0),), "no welcome"),
        ((b"\xff",), "malformed message"),
        ((b"\x0a\x02\x08\x02",), "protocol 2 is not ours"),
        ((proto.encode_welcome("gw"), proto.encode_welcome("gw")), "unexpected kind welcome"),
        ((proto.encode_welcome("gw"), b"\xff"), "malformed message"),
        ((proto.encode_welcome("gw"), *[proto.encode_batch(request(), 0.0)] * 3), "more than the 2 frames"),
    ],
)
def test_hub_that_breaks_the_protocol_is_left(messages: tuple[bytes, ...], reason: str) -> None:
    """A subscriber leaves a hub that it cannot understand, or that sends more than it was granted credit for."""

    async def work() -> None:
        server = other_hub(*messages)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with pytest.raises(BusError, match=reason):
            await listen_to(f"127.0.0.1:{port}")
        await server.stop(0)

    in_loop(work)


SLEEPER = """
import asyncio, sys
from rdv.inputs import RowSchema
from rdv.serving.bus.grpc_client import subscribe
from rdv.serving.bus.port import Identity

async def main() -> None:
    await subscribe(sys.argv[1], Identity("visit", "champion", "r1", "v1", RowSchema(("age",))))
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL])
def test_silent_subscriber_is_noticed(run: Run, monkeypatch: pytest.MonkeyPatch, fault: signal.Signals) -> None:
    """A subscriber that stands still, as when its host is gone, is let go after a while, its rows counted."""
    monkeypatch.setattr("rdv.serving.bus.grpc_wire.KEEPALIVE_MS", 500)
    monkeypatch.setattr("rdv.serving.bus.grpc_wire.KEEPALIVE_ANSWER_MS", 500)

    async def scenario(hub: GrpcHub, address: str) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEPER, address)
        try:
            while not hub.replicas("visit"):
                await asyncio.sleep(0.01)
            process.send_signal(fault)
            hub.publish(request(3))
            while hub.replicas("visit"):
                await asyncio.sleep(0.01)
            assert hub.traffic()["visit", "champion"].drops in ({"disconnected": 3}, {"no_subscriber": 3})
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    run(scenario)
