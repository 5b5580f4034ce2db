"""Open-loop load: requests leave at fixed arrival times, whether or not earlier ones were answered.

A latency counts from the request's arrival time, not from when the client got round to sending it, so a server that
stalls is charged for everything that had to wait (no coordinated omission). Arrival times come from a timerfd, because
an event loop's own timers are rounded to a millisecond.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import os
import re
import time
from collections.abc import Callable, Sequence

import msgspec

GRACE_S = 3.0
"""How long after the last arrival answers are awaited."""
CONNECT_S = 5.0
_LEAD_S = 0.2
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
_ABSOLUTE, _NONBLOCK = 1, os.O_NONBLOCK


class Address(msgspec.Struct, frozen=True):
    """Where a gateway listens."""

    host: str
    port: int
    tls: bool = False


class Sent(msgspec.Struct, array_like=True):
    """One request's fate. due_s: arrival time on CLOCK_MONOTONIC. All latencies count from it.

    late_ms: how late the client itself was to see that it was due. sent_ms: when it went out, later where it waited for
    a connection. body: the answer's. Without an answer status is 0 and latency_ms infinite (stored as None); broken:
    because its connection ended, or what came back was no HTTP.
    """

    at: int
    due_s: float
    sent_ms: float | None = None
    latency_ms: float | None = None
    status: int = 0
    body: bytes = b""
    late_ms: float = 0.0
    broken: bool = False

    @property
    def waited_ms(self) -> float:
        """The latency, infinite for a request that was not answered."""
        return float("inf") if self.latency_ms is None else self.latency_ms


def arrival_s(start_s: float, rate: float, at: int) -> float:
    """When request number `at` is due: evenly spaced, `rate` a second, the first at start_s."""
    return start_s + at / rate


def arrivals(rate: float, seconds: float) -> int:
    """How many requests are due within some seconds."""
    return max(1, round(rate * seconds))


def whole_answer(buffer: bytes) -> tuple[int, bytes] | None:
    """Status and body of the HTTP/1.1 answer a buffer holds; None while it is not there in full.

    Raises ValueError for an answer whose end cannot be known, or with bytes after its end.
    """
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = _LENGTH.search(buffer, 0, head + 2)
    if length is None:
        if _CHUNKED.search(buffer, 0, head + 2):
            body = whole_chunks(buffer[head + 4 :])
            return None if body is None else (int(buffer[9:12]), body)
        raise ValueError(f"an answer without Content-Length: {buffer[:head]!r}")
    end = head + 4 + int(length[1])
    if len(buffer) > end:
        raise ValueError("bytes after the end of an answer")
    return (int(buffer[9:12]), buffer[head + 4 :]) if len(buffer) == end else None


def whole_chunks(data: bytes) -> bytes | None:
    """The body that some chunks make, None while the last one is not there; ValueError for bytes that are no chunks."""
    at = 0
    parts: list[bytes] = []
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].partition(b";")[0], 16)
        begin = end + 2
        if len(data) < begin + size + 2:
            return None
        if data[begin + size : begin + size + 2] != b"\r\n":
            raise ValueError("a chunk without its end")
        if not size:
            return b"".join(parts)
        parts.append(data[begin : begin + size])
        at = begin + size + 2
    return None


def http_request(host: str, path: str, body: bytes) -> bytes:
    """One POST of a JSON body on a connection that is kept open."""
    lines = (f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Timer:
    """A timerfd on CLOCK_MONOTONIC, set to absolute times."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def at(self, due_s: float) -> None:
        """Become readable at a time, at once when it has passed."""
        whole, part = divmod(max(1, int(due_s * 1e9)), 1_000_000_000)
        spec = (ctypes.c_long * 4)(0, 0, whole, part)
        if self._libc.timerfd_settime(self.fd, _ABSOLUTE, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        """Forget that it fired."""
        os.read(self.fd, 8)


class _Connection(asyncio.Protocol):
    """One kept-open connection with at most one request on it."""

    def __init__(self, client: Client, address: Address) -> None:
        self.client, self.address = client, address
        self.request: Sent | None = None
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.client.free(self)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.buffer += data
        try:
            whole = whole_answer(self.buffer)
        except ValueError:
            self.transport.abort()  # what comes next on it could be anything
            return
        if whole is None or self.request is None:
            return
        sent, self.request = self.request, None
        ends = _CLOSE.search(self.buffer, 0, self.buffer.find(b"\r\n\r\n") + 2)
        self.buffer = b""
        sent.status, sent.body = whole
        sent.latency_ms = (now - sent.due_s) * 1000.0
        self.client.done(sent)
        if ends:
            self.transport.abort()
        else:
            self.client.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        sent, self.request = self.request, None
        if sent is not None and not self.client.ending:
            sent.broken = True
            self.client.done(sent)
        self.client.lost_connection(self)


class Client:
    """Sends numbered requests at their times over a pool of connections. `sent`: all that were due so far, in order.

    told: called with each request once it is answered or lost. grace_s: how long the last answers are awaited.
    """

    def __init__(
        self,
        requests: Sequence[bytes],
        rate: float,
        seconds: float,
        told: Callable[[Sent], None] = lambda sent: None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.requests, self.rate = requests, rate
        self.total = arrivals(rate, seconds)
        self.sent: list[Sent] = []
        self._told, self._grace_s = told, grace_s
        self._done = 0
        self._waiting: collections.deque[Sent] = collections.deque()
        self._idle: collections.deque[_Connection] = collections.deque()
        self._open: set[_Connection] = set()
        self._missing: collections.deque[Address] = collections.deque()
        self.ending = False
        self._wake = asyncio.Event()
        self._timer = _Timer()
        self._start_s = 0.0

    async def run(
        self, addresses: Sequence[Address], connections: int, ready: Callable[[float], None] = lambda start_s: None
    ) -> None:
        """Open the connections, evenly over the addresses, send everything, wait for the rest.

        ready: told the time of the first arrival just before it. OSError or TimeoutError when nobody listens.
        """
        loop = asyncio.get_running_loop()
        for at in range(connections):
            await self._connect(addresses[at % len(addresses)])
        self._start_s = time.monotonic() + _LEAD_S
        loop.add_reader(self._timer.fd, self._due)
        try:
            self._timer.at(self._start_s)
            ready(self._start_s)
            end_s = arrival_s(self._start_s, self.rate, self.total) + self._grace_s
            while self._done < self.total and (left_s := end_s - time.monotonic()) > 0:
                try:
                    await asyncio.wait_for(self._wake.wait(), min(left_s, 0.5))
                except TimeoutError:
                    continue
                self._wake.clear()
                await self._replace(end_s)
        finally:
            loop.remove_reader(self._timer.fd)
            os.close(self._timer.fd)
            self.ending = True
            for connection in list(self._open):
                connection.transport.abort()

    async def _replace(self, end_s: float) -> None:
        """Open a connection in place of each that was lost."""
        while self._missing and time.monotonic() < end_s and self._done < self.total:
            try:
                await self._connect(self._missing[0])
                self._missing.popleft()
            except (OSError, TimeoutError):
                self._missing.rotate()
                await asyncio.sleep(0.05)

    async def _connect(self, address: Address) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):
            await loop.create_connection(
                lambda: _Connection(self, address), address.host, address.port, ssl=address.tls or None
            )

    def free(self, connection: _Connection) -> None:
        """A connection has nothing on it: the longest waiting request takes it, else it joins the idle ones."""
        self._open.add(connection)
        if self._waiting:
            self._send(self._waiting.popleft(), connection)
        else:
            self._idle.append(connection)

    def done(self, sent: Sent) -> None:
        """Nothing more will come for a request."""
        if self.ending:
            return
        self._done += 1
        self._told(sent)
        if self._done == self.total:
            self._wake.set()

    def lost_connection(self, connection: _Connection) -> None:
        """A connection is gone: open another one in its place."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._missing.append(connection.address)
        self._wake.set()

    def _due(self) -> None:
        self._timer.clear()
        now = time.monotonic()
        at = len(self.sent)
        while at < self.total and (due_s := arrival_s(self._start_s, self.rate, at)) <= now:
            request = Sent(at, due_s, late_ms=(now - due_s) * 1000.0)
            self.sent.append(request)
            if self._idle:
                self._send(request, self._idle.popleft())
            else:
                self._waiting.append(request)
            at += 1
        if at < self.total:
            self._timer.at(arrival_s(self._start_s, self.rate, at))

    def _send(self, request: Sent, connection: _Connection) -> None:
        connection.request = request
        connection.transport.write(self.requests[request.at % len(self.requests)])
        request.sent_ms = (time.monotonic() - request.due_s) * 1000.0
