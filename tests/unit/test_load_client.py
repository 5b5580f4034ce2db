"""The load's client against servers of the tests' own: what it counts is what was due, not what it got round to."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.serving.load.client import Address, Client, Sent, arrival_s, arrivals, http_request, whole_answer
from rdv.serving.load.figures import Fates, figures, quantile

ANSWER = b'{"source":"tier 1","degraded":false}'
STALL_S = 1.0


@given(rate=st.floats(1.0, 5000.0), seconds=st.floats(0.01, 10.0), start_s=st.floats(0.0, 1e6))
def test_arrivals_are_fixed_and_evenly_spaced(rate: float, seconds: float, start_s: float) -> None:
    """Arrival times depend on the schedule alone: the first at the start, 1/rate apart, all within the time."""
    count = arrivals(rate, seconds)
    assert count == max(1, round(rate * seconds))
    assert arrival_s(start_s, rate, 0) == start_s
    last_s = arrival_s(start_s, rate, count - 1) - start_s
    assert last_s == pytest.approx((count - 1) / rate, abs=1e-6)


@given(body=st.binary(max_size=200), status=st.sampled_from([200, 400, 503]), cut=st.integers(0, 400))
def test_an_answer_is_read_when_it_is_whole(body: bytes, status: int, cut: int) -> None:
    """Any shorter piece of an answer is not yet one; the whole yields its status and body."""
    whole = b"HTTP/1.1 %d X\r\nserver: x\r\nContent-length: %d\r\n\r\n%b" % (status, len(body), body)
    assert whole_answer(whole) == (status, body)
    if cut < len(whole):
        assert whole_answer(whole[:cut]) is None


def test_an_answer_of_unknown_length_is_refused() -> None:
    """The client does not guess where an answer ends."""
    with pytest.raises(ValueError, match="without Content-Length"):
        whole_answer(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(ValueError, match="after the end"):
        whole_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab")


@pytest.fixture
def server() -> Iterator[int]:
    """The port of an HTTP server that answers a body with itself and breaks off the connection on `drop`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if body == b"drop":
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if body == b"last":
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *told: object) -> None:
            return

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served.server_port
    served.shutdown()
    thread.join()
    served.server_close()


def test_every_request_is_accounted_for(server: int) -> None:
    """Each request is sent once, in order, with its own answer; one whose connection broke is lost, not repeated."""
    requests = [http_request("x", "/", body) for body in (b"one", b"two", b"drop", b"last")]
    told: list[int] = []

    async def run() -> list[Sent]:
        client = Client(requests, rate=200.0, seconds=0.2, told=lambda one: told.append(one.at))
        await client.run([Address("127.0.0.1", server)], connections=3)
        return client.sent

    sent = asyncio.run(run())
    assert [one.at for one in sent] == list(range(40)) == sorted(told)
    assert {(one.at % 4, one.status, one.body, one.broken) for one in sent} == {
        (0, 200, b"one", False),
        (1, 200, b"two", False),
        (2, 0, b"", True),
        (3, 200, b"last", False),
    }
    assert all(one.sent_ms is not None and one.waited_ms >= one.sent_ms >= one.late_ms for one in sent)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=list[Sent]) == sent


class _Answering(asyncio.Protocol):
    """One connection of a server that answers everything with ANSWER, or with `raw`, after a while."""

    def __init__(self, wait_s: Callable[[float], float], began: list[float], raw: bytes) -> None:
        self._wait_s, self._began, self._raw = wait_s, began, raw

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._began.append(time.monotonic())
        wait_s = self._wait_s(self._began[-1] - self._began[0])
        asyncio.get_running_loop().call_later(wait_s, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._raw)


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


@asynccontextmanager
async def answering(wait_s: Callable[[float], float], raw: bytes = WHOLE) -> AsyncIterator[int]:
    """The port of a server in this loop; wait_s: how long an answer takes, by the seconds since the first request."""
    began: list[float] = []
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: _Answering(wait_s, began, raw), "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def loaded(wait_s: Callable[[float], float], connections: int, rate: float, seconds: float) -> list[Sent]:
    """What became of the requests to such a server."""
    async with answering(wait_s) as port:
        client = Client([http_request("x", "/", b"{}")], rate, seconds)
        await client.run([Address("127.0.0.1", port)], connections)
    return client.sent


@pytest.mark.parametrize("connections", [1, 64])
def test_a_stalled_server_shows_in_the_quantiles(connections: int) -> None:
    """A second's stall in four is a quarter of the requests, whether they wait for the server or for a connection.

    Measured from when they went out, over one connection, the stall would be a single request of hundreds.
    """

    def stall(since_s: float) -> float:
        return max(0.0, 1.0 + STALL_S - since_s) if since_s >= 1.0 else 0.0

    sent = asyncio.run(loaded(stall, connections, rate=100.0, seconds=4.0))
    fates = Fates()
    found = figures(sent, fates, 100.0, 4.0)
    slow = [one for one in sent if one.waited_ms >= STALL_S * 500]
    assert len(slow) >= 40, "half of those that came within the stall waited for half of it"
    assert found.latency_ms["p90"] >= STALL_S * 500
    assert found.latency_ms["p50"] < STALL_S * 500
    assert max(one.max_ms for one in found.slices if 1.0 <= one.from_s < 1.2) >= STALL_S * 700
    if connections == 1:
        as_sent = [one.waited_ms - (one.sent_ms or 0.0) for one in sent]
        assert quantile(as_sent, 0.99) < STALL_S * 500, "what a client that waits for answers would report"
        assert found.waited >= 40


def test_requests_that_are_never_answered_end_the_run() -> None:
    """The client gives up a while after the last request, and what has no answer is told as such."""

    async def run() -> list[Sent]:
        async with answering(lambda since_s: 30.0) as port:
            client = Client([http_request("x", "/", b"{}")], 50.0, 0.2, grace_s=0.3)
            await client.run([Address("127.0.0.1", port)], 4)
        return client.sent

    began = time.monotonic()
    found = figures(asyncio.run(run()), Fates(), 50.0, 0.2)
    assert time.monotonic() - began < 20
    assert found.errors == {"no answer in time": 4, "no connection free": 6}


def test_bytes_that_are_no_http_break_the_connection() -> None:
    """A server of another kind is an error of every request, not a hang."""

    async def run() -> list[Sent]:
        async with answering(lambda since_s: 0.0, b"SSH-2.0-x\r\n\r\n") as port:
            client = Client([http_request("x", "/", b"{}")], 50.0, 0.2, grace_s=2.0)
            await client.run([Address("127.0.0.1", port)], 2)
        return client.sent

    found = figures(asyncio.run(run()), Fates(), 50.0, 0.2)
    assert found.errors == {"connection broken": 10}
