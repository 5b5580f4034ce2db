"""What the scenarios with real servers share: servers of a test's own, and a proxy that fails on demand."""

from __future__ import annotations

import http.client
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class FaultyProxy:
    """Forwards requests to a server on this machine, and does to the next ones what `faults` says, one each.

    Faults: `cut before` and `cut after` (no answer, the request not forwarded or forwarded), a number (that status),
    `half` (half of the answer). only: the methods that faults meet.
    """

    def __init__(self, port: int, only: str = "GET PUT POST DELETE HEAD") -> None:
        self.faults: deque[str] = deque()
        self.requests: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                proxy.requests.append(f"{self.command} {self.path}")
                fault = proxy.faults.popleft() if proxy.faults and self.command in only.split() else ""
                body = self.rfile.read(size)
                if fault == "cut before":
                    self.close_connection = True
                elif fault.isdigit():
                    self.answer(int(fault), {}, b"")
                else:
                    status, headers, answer = proxy.forward(port, self.command, self.path, body, dict(self.headers))
                    self.answer(status, headers, answer, fault)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

            def answer(self, status: int, headers: dict[str, str], body: bytes, fault: str = "") -> None:
                if fault == "cut after":
                    self.close_connection = True
                    return
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if fault == "half" else body)
                self.close_connection |= fault == "half"

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @staticmethod
    def forward(
        port: int, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """The real server's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read()
        finally:
            connection.close()

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def faulty_proxy() -> Iterator[Callable[..., FaultyProxy]]:
    """faulty_proxy(port): a proxy before a server, closed with the test."""
    made: list[FaultyProxy] = []

    def make(port: int, only: str = "GET PUT POST DELETE HEAD") -> FaultyProxy:
        made.append(FaultyProxy(port, only))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def no_consul_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings for Consul."""
    for name in [name for name in os.environ if name.startswith("CONSUL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def own_consul(live_server: Callable[..., Any]) -> Iterator[Any]:
    """A Consul that the test may break."""
    server = live_server("consul:ConsulServer", "consul")
    server.start()
    yield server
    server.close()
