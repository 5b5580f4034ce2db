"""What the frames adapter owes beyond the bus contract: it faces bytes that nobody vouches for."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import uvloop

from rdv.errors import BusError, TimedOut, Unreachable
from rdv.inputs import RowSchema
from rdv.serving.bus import codec
from rdv.serving.bus.exchange import Limits
from rdv.serving.bus.frames import FramesHub, subscribe
from rdv.serving.bus.port import NO_DEADLINE, Identity, Requests
from rdv.sockets import bound_unix_socket

SCHEMA = RowSchema(("age",))
ME = Identity("visit", "champion", "r1", "v1", SCHEMA)
LIMITS = Limits(max_frame_bytes=5000, hello_s=0.05, linger_s=0.05, connections=4)
HANG_S = 60.0

Scenario = Callable[[FramesHub, Path], Awaitable[None]]
Run = Callable[[Scenario], list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A function that runs a scenario against a listening hub, and returns the reasons of its refusals."""
    refused: list[str] = []

    async def within(scenario: Scenario) -> None:
        path = tmp_path / "bus" / "gw.sock"
        hub = FramesHub("gw-1", lambda *_: None, limits=LIMITS, on_refused=refused.append)
        hub.expect("visit", SCHEMA, ["champion"])
        await hub.listen(path)
        async with asyncio.timeout(HANG_S):
            await scenario(hub, path)
            await hub.close()
        assert not path.exists()

    def running(scenario: Scenario) -> list[str]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(within(scenario))
        return refused

    return running


def request(n: int = 1) -> Requests:
    doubles = struct.pack(f"<{n}d", *[NO_DEADLINE] * n)
    return Requests("visit", "gw-1", n, os.urandom(16 * n), doubles, doubles, bytes(8 * n), doubles)


async def talk(path: Path, data: bytes) -> list[tuple[int, bytes]]:
    """Send raw bytes to a hub and return every frame it sends until it hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    frames = codec.FrameReader(1 << 20).feed(await reader.read())
    writer.close()
    return frames


def hello(**change: object) -> bytes:
    said = {"protocol": codec.PROTOCOL, "topic": "visit", "name": "m", "replica": "r", "version": "v"}
    return codec.frame(codec.HELLO, msgspec.msgpack.encode({**said, "numbers": ["age"], **change}))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (hello(protocol=2), "protocol 2 is not ours"),
        (hello(protocol="1"), "malformed hello"),
        (hello(surprise=1), "malformed frame"),
        (hello(credit=2.5), "malformed frame"),
        (codec.frame(codec.HELLO, b"\xc1\xc1"), "malformed hello"),
        (codec.frame(codec.SCORES, bytes(60)), "the first frame must be a hello"),
        (b"GET / HTTP/1.1\r\n\r\n", "bytes is refused"),
        (struct.pack("<IB", 0, 1), "0 bytes is refused"),
        (b"", "no hello within"),
        (b"\x05", "no hello within"),
        (hello() + codec.frame(99, b""), "unexpected kind 99"),
        (hello() + codec.frame(codec.SCORES, bytes(7)), "too short"),
        (hello() + codec.frame(codec.SCORES, b"\xff" * 40), "does not hold"),
        (hello() + codec.frame(codec.ANNOUNCE, b"\xff\xfe"), "not UTF-8"),
        (hello() + codec.frame(codec.ANNOUNCE, b"v" * 201), "longer than"),
        (hello() + struct.pack("<IB", 2 << 20, codec.SCORES), "bytes is refused"),
    ],
)
def test_malformed_peers_are_refused_with_a_reason(run: Run, data: bytes, reason: str) -> None:
    """Whoever breaks the protocol is told why, hung up on and reported; the others are served on."""

    async def scenario(hub: FramesHub, path: Path) -> None:
        good = await subscribe(path, ME)
        kind, text = (await talk(path, data))[-1]
        assert kind == codec.REFUSED
        assert reason in text.decode()
        hub.publish(request())
        assert len(await good.receive()) == 1
        assert len(hub.replicas("visit")) == 1

    assert any(reason in refusal for refusal in run(scenario))


def test_reader_that_stops_holds_only_its_credit(run: Run) -> None:
    """However much is published, a subscriber that does not read has its credit of frames buffered, and close ends."""

    async def scenario(hub: FramesHub, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            silent.connect(str(path))
            silent.sendall(codec.encode_hello(ME))
            while not hub.replicas("visit"):
                await asyncio.sleep(0.001)
            for _ in range(1000):
                hub.publish(request(10))
            traffic = hub.traffic()["visit", "champion"]
            assert traffic.in_flight == 20
            assert traffic.waiting == LIMITS.waiting_rows
            await hub.close()
            assert not hub.connections

    run(scenario)


def test_vanished_peer_is_noticed(run: Run) -> None:
    """A subscriber whose process ends without a word is gone from the hub, its rows counted."""

    async def scenario(hub: FramesHub, path: Path) -> None:
        subscription = await subscribe(path, ME)
        hub.publish(request(3))
        await subscription.receive()
        subscription._side.abort()
        while hub.replicas("visit"):
            await asyncio.sleep(0.001)
        assert hub.traffic()["visit", "champion"].drops == {"disconnected": 3}

    run(scenario)


def test_nobody_there_is_unreachable(run: Run) -> None:
    """Joining a hub that does not exist says which socket nobody listens on."""

    async def scenario(hub: FramesHub, path: Path) -> None:
        with pytest.raises(Unreachable, match="other.sock"):
            await subscribe(path.with_name("other.sock"), ME)

    run(scenario)


def test_silent_hub_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that takes the connection and says nothing is given up on."""
    monkeypatch.setattr("rdv.serving.bus.frames.HANDSHAKE_S", 0.05)
    with bound_unix_socket(tmp_path / "mute.sock"), pytest.raises(TimedOut, match="did not welcome"):
        asyncio.run(subscribe(tmp_path / "mute.sock", ME))


def test_hub_that_overruns_credit_is_left(tmp_path: Path) -> None:
    """A subscriber hangs up on a hub that sends more frames than it was granted credit for."""

    async def scenario() -> None:
        async def overrun(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(codec.encode_welcome("gw-1") + codec.encode_batch(request()) * 3)
            await reader.read()
            writer.close()

        server = await asyncio.start_unix_server(overrun, sock=bound_unix_socket(tmp_path / "gw.sock"))
        subscription = await subscribe(tmp_path / "gw.sock", ME)
        assert len(await subscription.receive()) == 2
        with pytest.raises(BusError, match="more than the 2 frames"):
            await subscription.receive()
        await subscription.close()
        server.close()

    asyncio.run(scenario())
