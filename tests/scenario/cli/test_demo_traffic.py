"""The demo's client against a real listener: steady, bounded, and honest about what got no answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from rdv.cli.demo import traffic as demo_traffic
from rdv.cli.demo.traffic import CONNECTIONS, Exchange, Traffic, gap_s, parse_head

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"


async def read_body(reader: asyncio.StreamReader) -> bytes:
    """The body of one request; empty when the client has left."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        return await reader.readexactly(int(parse_head(head)["content-length"]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with the number in it."""
    while body := await read_body(reader):
        writer.write(ANSWER + b'{"n": %4d}' % int(body))
    writer.close()


def run(handler: Handler, count: int, rate: float = 2_000) -> Traffic:
    """Traffic of some numbered requests to a listener, after its end."""

    async def inside() -> Traffic:
        handled: set[asyncio.Task[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handled.add(task)
            await handler(reader, writer)

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            traffic = Traffic("127.0.0.1", port, "/x", [b"%d" % n for n in range(count)], rate)
            traffic.over.set()
            await traffic.run()
        if handled:
            await asyncio.wait(handled, timeout=30)
        return traffic

    return asyncio.run(inside())


def statuses(exchanges: list[Exchange]) -> list[int]:
    """Statuses in the order of the rows."""
    return [one.status for one in sorted(exchanges, key=lambda one: one.row)]


def test_every_request_gets_its_own_answer() -> None:
    """Each row is sent once and matched with the answer to it, over reused connections."""
    traffic = run(echo, 300)
    assert {one.row: one.answer["n"] for one in traffic.exchanges} == {n: n for n in range(300)}
    assert set(statuses(traffic.exchanges)) == {200}


def test_a_slow_answer_delays_no_other_question() -> None:
    """The loop is open: while one answer takes long, the others are asked and answered."""

    async def slow_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while body := await read_body(reader):
            await asyncio.sleep(0.3 if body == b"0" else 0)
            writer.write(ANSWER + b'{"n": %4d}' % int(body))
        writer.close()

    order = [one.row for one in run(slow_once, 40).exchanges]
    assert sorted(order) == list(range(40))
    assert order[-1] == 0


def test_a_connection_that_breaks_is_one_lost_request() -> None:
    """A server that hangs up leaves that request with status 0, and the next ones go on over new connections."""

    async def hang_up_on_seven(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while body := await read_body(reader):
            if int(body) % 10 == 7:
                break
            writer.write(ANSWER + b'{"n": %4d}' % int(body))
        writer.close()

    found = statuses(run(hang_up_on_seven, 30, rate=500).exchanges)
    assert [row for row, status in enumerate(found) if status == 0] == [7, 17, 27]


def test_connections_are_bounded_and_silence_is_given_up(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Against a server that never answers, the client opens so many connections and then gives up."""
    monkeypatch.setattr(demo_traffic, "GIVE_UP_S", 0.3)
    opened = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(1)
        while await read_body(reader):
            pass
        writer.close()

    began = time.monotonic()
    traffic = run(silent, CONNECTIONS * 2)
    assert len(opened) <= CONNECTIONS
    assert not [one for one in traffic.exchanges if one.status]
    assert time.monotonic() - began < 30


@given(st.integers(1, 10_000), st.floats(1, 1_000), st.data())
def test_the_last_tenth_waits_for_the_scenario(total: int, rate: float, data: st.DataObject) -> None:
    """Requests go at the rate; the last tenth goes slower and slower until the scenario is over."""
    sent = data.draw(st.integers(0, total - 1))
    assert gap_s(sent, total, rate, over=True) == 1 / rate
    if sent < total * 0.9:
        assert gap_s(sent, total, rate, over=False) == 1 / rate
    else:
        assert gap_s(sent, total, rate, over=False) >= 9.99 / rate


def test_the_end_of_the_scenario_wakes_a_slow_client() -> None:
    """Once the scenario is over, what is left goes out at the full rate, not at the end of a long pause."""

    async def inside() -> tuple[int, float]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            traffic = Traffic(
                "127.0.0.1", server.sockets[0].getsockname()[1], "/x", [b"%d" % n for n in range(20)], 100
            )
            asyncio.get_running_loop().call_later(0.3, traffic.over.set)
            began = time.monotonic()
            await traffic.run()
        await asyncio.sleep(0.05)
        return len(traffic.exchanges), time.monotonic() - began

    answered, took_s = asyncio.run(inside())
    assert answered == 20
    assert took_s < 30
