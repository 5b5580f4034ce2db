"""How connections live and end: deadlines, pipelining, clients that vanish, fall silent, do not read or ask to part."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from raw_http import BODY, HOST, chunked, head, post

Run = Callable[..., None]


def bounded(monkeypatch: pytest.MonkeyPatch, **change: Any) -> None:
    """Have the gateway's listeners take other bounds than they are configured with."""
    import rdv.serving.gateway.role as role

    bounds = role._bounds
    monkeypatch.setattr(role, "_bounds", lambda serve: replace(bounds(serve), **change))


def test_headers_have_a_deadline(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that drips its headers is hung up on."""
    bounded(monkeypatch, header_ms=200)

    async def scenario(gateway: Any) -> None:
        answers, hung_up = await gateway.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ")
        assert (answers, hung_up) == ([], True)

    run(scenario)


@pytest.mark.parametrize("start", [post(length=b"500"), chunked(b'{"a":', end=b"")], ids=["length", "chunked"])
def test_bodies_have_a_deadline(run: Run, start: bytes) -> None:
    """A body that does not arrive in time is answered 408 and hung up on, and gives its place back."""

    async def scenario(gateway: Any) -> None:
        answers, hung_up = await gateway.raw(start)
        assert (answers[0].status, answers[0].json["error"], hung_up) == (408, "body_timeout", True)
        await gateway.worker("champion")
        assert (await gateway.score({"a": 1})).status == 200

    run(scenario, serve={"body_ms": 100.0, "max_in_flight": 1})


def test_body_deadline_cuts_off_nobody_else(run: Run) -> None:
    """Beside a client that never finishes its body, others are answered all the time."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        slow = asyncio.ensure_future(gateway.raw(post(length=b"500")))
        while not slow.done():
            assert (await gateway.score({"a": 2, "b": 1})).json["answer"] == 3.0
        assert (await slow)[0][0].status == 408

    run(scenario, serve={"body_ms": 300.0})


def test_body_in_pieces_is_one_body(run: Run) -> None:
    """A body that arrives byte by byte, or in chunks, is answered like one that came whole."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        data = post()
        answers, hung_up = await gateway.raw(*[data[at : at + 1] for at in range(len(data))])
        assert (answers[0].json["answer"], hung_up) == (3.5, False)
        answers, _ = await gateway.raw(chunked(BODY[:3], BODY[3:9], BODY[9:]))
        assert answers[0].json["answer"] == 3.5
        answers, _ = await gateway.raw(post(b"", b"expect: 100-continue\r\n", length=b"18"), BODY, pause_s=0.05)
        assert [one.status for one in answers] == [100]

    run(scenario)


@pytest.mark.parametrize("how", ["body", "score", "reset"])
def test_clients_that_vanish_leave_nothing(run: Run, how: str) -> None:
    """Clients that go in the middle of their body, or before their answer, leave no place taken and no mailbox."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.05)
        for _ in range(20):
            _, writer = await gateway.connect()
            writer.write(post(length=b"500") if how == "body" else post())
            await writer.drain()
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()
        await gateway.until(lambda: is_settled(gateway))
        assert (await gateway.score({"a": 1})).status == 200

    run(scenario, serve={"max_in_flight": 25})


async def is_settled(gateway: Any) -> bool:
    view = await gateway.status()
    return bool(view["mailboxes"] == 0 and view["ledger"]["open"] == 0)


def test_connection_is_kept_and_pipelined(run: Run) -> None:
    """Well-behaved clients keep their connection; requests sent together are answered in order."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        reader, writer = await gateway.connect()
        writer.write(b"".join(post(json.dumps({"a": at}).encode()) for at in range(10)))
        from_gateway = [await read(reader) for _ in range(10)]
        assert [one["answer"] for one in from_gateway] == [float(at) for at in range(10)]
        writer.write(post(b'{"a": "no"}') + post())
        assert (await read(reader))["error"] == "schema"
        assert (await read(reader))["answer"] == 3.5

    run(scenario)


async def read(reader: asyncio.StreamReader) -> Any:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length"))
    return json.loads(await reader.readexactly(length))


def test_a_refusal_is_read_although_its_body_was_not(run: Run) -> None:
    """A client that goes on sending a body that was refused still reads why, before the connection ends."""

    async def scenario(gateway: Any) -> None:
        reader, writer = await gateway.connect()
        writer.write(post(b"x" * 200_000, length=b"50000000"))
        await asyncio.sleep(0.05)
        writer.write(b"x" * 200_000)
        assert (await read(reader))["error"] == "too_large"
        assert await reader.read() == b""

    run(scenario)


def test_a_client_that_has_said_all_is_answered(run: Run) -> None:
    """A client that closes its sending side behind its requests gets its answers, then the connection ends."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.05)
        reader, writer = await gateway.connect()
        writer.write(post() + post())
        writer.write_eof()
        assert [(await read(reader))["answer"] for _ in range(2)] == [3.5, 3.5]
        assert await reader.read() == b""

    run(scenario)


def test_who_asks_to_part_is_let_go(run: Run) -> None:
    """Whoever says `connection: close`, or speaks HTTP/1.0, is answered and hung up on; HEAD is refused, bodiless."""

    async def scenario(gateway: Any) -> None:
        for data in (
            head(b"GET", b"/healthz", HOST, b"connection: close\r\n"),
            head(b"GET", b"/healthz", HOST).replace(b"1.1", b"1.0"),
        ):
            answers, hung_up = await gateway.raw(data + data)
            assert ([one.status for one in answers], hung_up) == ([200], True)
        reader, writer = await gateway.connect()
        writer.write(head(b"HEAD", b"/healthz", HOST))
        said = await reader.read()
        assert said.startswith(b"HTTP/1.1 405 ")
        assert said.endswith(b"\r\n\r\n")

    run(scenario)


def test_idle_connections_end_in_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a request is closed after its time, a new one as well as one that has been answered."""
    bounded(monkeypatch, idle_s=0.2)

    async def scenario(gateway: Any) -> None:
        silent, _ = await gateway.connect()
        served, writer = await gateway.connect()
        writer.write(head(b"GET", b"/healthz", HOST))
        assert (await read(served)) == {"status": "ok"}
        assert (await silent.read(), await served.read()) == (b"", b"")

    run(scenario)


def test_idle_connections_make_room(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound on connections the one that has been idle for longest goes; busy ones stay."""
    bounded(monkeypatch, connections=4)

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        busy, writer = await gateway.connect()
        writer.write(post())
        await gateway.until(lambda: gateway.has_open(1))
        silent = [(await gateway.connect())[0] for _ in range(6)]
        assert await silent[0].read() == b""
        assert (await read(busy))["answer"] == 3.5
        assert (await gateway.call("GET", "/healthz")).status == 200

    run(scenario)


def test_answers_that_nobody_reads_do_not_pile_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a client that sends and never reads no more is taken in than fits the buffers, and it is hung up on."""
    import rdv.serving.http.edge as http

    monkeypatch.setattr(http, "WRITE_S", 0.5)

    async def scenario(gateway: Any) -> None:
        _, writer = await gateway.connect()
        before = resident_kb()
        with contextlib.suppress(ConnectionError):
            for _ in range(20_000):
                writer.write(head(b"GET", b"/v1/goals/sum/openapi.json", HOST))
                await writer.drain()
        assert resident_kb() - before < 50_000
        assert (await gateway.call("GET", "/healthz")).status == 200

    run(scenario)


def test_a_stop_waits_for_who_is_served(run: Run) -> None:
    """A stopping gateway closes idle connections at once and answers the request in flight, which then ends too."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        silent, _ = await gateway.connect()
        reader, writer = await gateway.connect()
        writer.write(post())
        await gateway.until(lambda: gateway.has_open(1))
        gateway.stop.set()
        assert await silent.read() == b""
        assert (await read(reader))["answer"] == 3.5
        assert await reader.read() == b""

    run(scenario)


def test_silent_connections_do_not_stop_service(run: Run) -> None:
    """Hundreds of connections that say nothing leave the others served."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        for _ in range(300):
            await gateway.connect()
        assert (await gateway.score({"a": 1})).status == 200

    run(scenario)


def test_large_bodies_do_not_cost_memory(run: Run) -> None:
    """Bodies beyond the cap are refused before they are read: a hundred of 50 MB each leave the memory as it was."""

    async def scenario(gateway: Any) -> None:
        before = resident_kb()
        for _ in range(100):
            _, writer = await gateway.connect()
            writer.write(post(b"x" * 100_000, length=b"50000000"))
        await gateway.until(lambda: refused_all(gateway))
        assert resident_kb() - before < 100_000

    async def refused_all(gateway: Any) -> bool:
        return bool((await gateway.status())["refused"].get("413") == 100)

    run(scenario)


def resident_kb() -> int:
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])
