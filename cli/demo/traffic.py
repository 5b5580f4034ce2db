"""The demo's client: requests at fixed moments, whether or not earlier ones have been answered.

An open loop, as real users are one: a slow answer delays nobody else's question. Bounded by its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

CONNECTIONS = 64
GIVE_UP_S = 10.0
LAST_SHARE, LAST_PACE = 0.1, 0.1


@dataclass(slots=True)
class Exchange:
    """One request: which row, when (CLOCK_MONOTONIC), and what came back; status 0 = no answer."""

    row: int
    due_s: float
    done_s: float = 0.0
    status: int = 0
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def latency_ms(self) -> float:
        """From the moment at which it was due to the answer."""
        return (self.done_s - self.due_s) * 1e3


def gap_s(sent: int, total: int, rate: float, over: bool) -> float:
    """Seconds until the next request, 0 <= sent < total.

    While the scenario is not over the last tenth goes at a tenth of the rate and ever more slowly, to outlast it.
    """
    left, last = total - sent, total * LAST_SHARE
    return 1 / rate if over or left > last else last / (rate * LAST_PACE * left)


class Traffic:
    """Sends each body once, in order, at a steady rate; `exchanges` grows as answers come back."""

    def __init__(self, host: str, port: int, path: str, bodies: Sequence[bytes], rate: float) -> None:
        self.exchanges: list[Exchange] = []
        self.sent = 0
        self.over = asyncio.Event()  # set by whoever runs the scenario, once nothing more will happen
        self.rate, self.total = rate, len(bodies)
        self._host, self._port, self._bodies = host, port, bodies
        self._head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n".encode()
        self._idle: list[_Connection] = []
        self._waiting: deque[Exchange] = deque()
        self._open: set[_Connection] = set()
        self._all_done = asyncio.Event()

    async def run(self) -> None:
        """Send everything and return once all is answered or given up; opens connections as it needs them."""
        due = time.monotonic()
        for row in range(self.total):
            due = await self._next(due)
            self.sent += 1
            await self._send(Exchange(row, due))
        with contextlib.suppress(TimeoutError):  # what has no answer by then shows as lost in the verdict
            async with asyncio.timeout(GIVE_UP_S):
                await self._all_done.wait()
        for connection in list(self._open):
            connection.close()

    async def _next(self, before: float) -> float:
        """Wait for the moment of the next request after one at `before`; that moment."""
        over = self.over.is_set()
        due = before + gap_s(self.sent, self.total, self.rate, over)
        if over or due - before <= 1 / self.rate:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            return due
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - time.monotonic())):
                await self.over.wait()
        return min(due, time.monotonic())

    async def _send(self, exchange: Exchange) -> None:
        self._waiting.append(exchange)
        if not self._idle and len(self._open) < CONNECTIONS:
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError):  # nobody listens: the request waits for a connection that lives
                _, connection = await loop.create_connection(lambda: _Connection(self._done), self._host, self._port)
                self._open.add(connection)
                self._idle.append(connection)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            exchange = self._waiting.popleft()
            self._idle.pop().send(self._head, self._bodies[exchange.row], exchange)

    def _done(self, connection: _Connection, exchange: Exchange | None, usable: bool) -> None:
        if exchange is not None:
            exchange.done_s = time.monotonic()
            self.exchanges.append(exchange)
        if usable:
            self._idle.append(connection)
        else:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
        self._hand_out()
        if len(self.exchanges) == self.total:
            self._all_done.set()


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, done: Callable[[_Connection, Exchange | None, bool], None]) -> None:
        self._done = done
        self._received = b""
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, head: bytes, body: bytes, exchange: Exchange) -> None:
        assert self._transport is not None
        self._exchange, self._received = exchange, b""
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank or self._exchange is None:
            return
        headers = parse_head(head)
        if len(body) < int(headers.get("content-length", "0")):
            return
        exchange, self._exchange = self._exchange, None
        exchange.status = int(headers[":status"])
        exchange.answer = json.loads(body) if body else {}
        self._done(self, exchange, headers.get("connection", "").lower() != "close")

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        self._done(self, exchange, False)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()


def parse_head(head: bytes) -> dict[str, str]:
    """Status (`:status`) and headers of a response, names in lower case."""
    first, *rest = head.decode("latin-1").split("\r\n")
    named = (line.partition(":") for line in rest)
    return {":status": first.split()[1]} | {name.strip().lower(): value.strip() for name, _, value in named}
