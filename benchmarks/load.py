"""Open-loop load: requests leave at fixed arrival times, whether or not earlier ones were answered.

A latency counts from the request's arrival time, not from when the client got round to sending it, so a server that
stalls is charged for everything that had to wait (no coordinated omission). Arrival times come from a timerfd, because
an event loop's own timers are rounded to a millisecond. As a program it is one client process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import ctypes
import gc
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

GRACE_S = 3.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_ABSOLUTE, _NONBLOCK = 1, os.O_NONBLOCK


class Sent(msgspec.Struct, array_like=True):
    """One request's fate. due_s: arrival time on CLOCK_MONOTONIC. sent_ms, latency_ms count from it.

    body: the answer's. Without an answer status is 0 and latency_ms infinite (stored as None).
    """

    at: int
    due_s: float
    sent_ms: float | None = None
    latency_ms: float | None = None
    status: int = 0
    body: bytes = b""

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

    Raises ValueError for an answer without a Content-Length or with bytes after its end.
    """
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = _LENGTH.search(buffer, 0, head + 2)
    if length is None:
        raise ValueError(f"an answer without Content-Length: {buffer[:head]!r}")
    end = head + 4 + int(length[1])
    if len(buffer) > end:
        raise ValueError("bytes after the end of an answer")
    return (int(buffer[9:12]), buffer[head + 4 :]) if len(buffer) == end else None


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

    def __init__(self, client: Client) -> None:
        self.client = client
        self.request: Sent | None = None
        self.buffer = b""
        self.transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.client.free(self)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.buffer += data
        whole = whole_answer(self.buffer)
        if whole is None or self.request is None:
            return
        sent, self.request, self.buffer = self.request, None, b""
        sent.status, sent.body = whole
        sent.latency_ms = (now - sent.due_s) * 1000.0
        self.client.answered += 1
        self.client.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.request = None
        self.client.lost_connection(self)


class Client:
    """Sends numbered requests at their times over a pool of connections."""

    def __init__(self, requests: Sequence[bytes], rate: float, seconds: float) -> None:
        self.requests, self.rate = requests, rate
        self.total = arrivals(rate, seconds)
        self.sent: list[Sent] = []
        self.answered = 0
        self._waiting: collections.deque[Sent] = collections.deque()
        self._idle: collections.deque[_Connection] = collections.deque()
        self._missing = 0
        self._wake = asyncio.Event()
        self._timer = _Timer()
        self._start_s = 0.0

    async def run(self, host: str, port: int, connections: int) -> None:
        """Open the connections, say `ready` with the time of the first arrival, send everything, wait for the rest."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: _Connection(self), host, port)
        self._start_s = time.monotonic() + 0.2
        loop.add_reader(self._timer.fd, self._due)
        self._timer.at(self._start_s)
        print(f"ready {self._start_s:.6f}", flush=True)
        end_s = arrival_s(self._start_s, self.rate, self.total) + GRACE_S
        while self.answered < self.total and (left_s := end_s - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._wake.wait(), min(left_s, 0.5))
            except TimeoutError:
                continue
            self._wake.clear()
            while self._missing:
                self._missing -= 1
                try:
                    await loop.create_connection(lambda: _Connection(self), host, port)
                except OSError:
                    self._missing += 1
                    await asyncio.sleep(0.05)
        loop.remove_reader(self._timer.fd)

    def free(self, connection: _Connection) -> None:
        """A connection has nothing on it: the longest waiting request takes it, else it joins the idle ones."""
        if self._waiting:
            self._send(self._waiting.popleft(), connection)
        else:
            self._idle.append(connection)

    def lost_connection(self, connection: _Connection) -> None:
        """A connection is gone: open another one in its place."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._missing += 1
        self._wake.set()

    def _due(self) -> None:
        self._timer.clear()
        now = time.monotonic()
        at = len(self.sent)
        while at < self.total and (due_s := arrival_s(self._start_s, self.rate, at)) <= now:
            request = Sent(at, due_s)
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


class Load:
    """A running client process. start_s: the first arrival, on CLOCK_MONOTONIC."""

    def __init__(self, port: int, path: str, bodies: Path, rate: float, seconds: float, connections: int = 128) -> None:
        self._out = Path(tempfile.mkstemp(prefix="rdv-load-")[1])
        self._seconds = seconds
        arguments = [str(port), path, str(bodies), str(rate), str(seconds), str(connections), str(self._out)]
        self._process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError(f"the load client did not start: {line!r}")
        self.start_s = float(line.split()[1])

    @property
    def running(self) -> bool:
        """Whether requests are still being sent or awaited."""
        return self._process.poll() is None

    def wait(self) -> list[Sent]:
        """Every request, in order of arrival, once all were answered or given up."""
        try:
            self._process.communicate(timeout=self._seconds + 2 * GRACE_S + 20)
            if self._process.returncode:
                raise RuntimeError(f"the load client ended with {self._process.returncode}")
            return msgspec.msgpack.decode(self._out.read_bytes(), type=list[Sent])
        finally:
            self._process.kill()
            self._process.wait()
            self._out.unlink(missing_ok=True)


def main() -> None:
    """Run one client as told by the arguments and write what became of each request."""
    parse = argparse.ArgumentParser(description=__doc__)
    for name in ("port", "path", "bodies", "rate", "seconds", "connections", "out"):
        parse.add_argument(name)
    told = parse.parse_args()
    bodies = Path(told.bodies).read_bytes().splitlines()
    requests = [http_request(f"127.0.0.1:{told.port}", told.path, body) for body in bodies]
    gc.disable()

    async def run() -> list[Sent]:
        client = Client(requests, float(told.rate), float(told.seconds))
        await client.run("127.0.0.1", int(told.port), int(told.connections))
        return client.sent

    Path(told.out).write_bytes(msgspec.msgpack.encode(asyncio.run(run())))


if __name__ == "__main__":
    main()
