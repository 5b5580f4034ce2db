"""A plain HTTP call to a server on this machine: no proxy, no redirect, no certificate store."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rdv.errors import RdvError

_CALL_S = 10.0
_LOOK_S = 2.0


class Answer(NamedTuple):
    """Status and body; status 0: nobody answered."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 200 or 204."""
        return self.status in (200, 204)

    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


def call(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    limit_s: float = _CALL_S,
) -> Answer:
    """Send one request to 127.0.0.1; body: bytes as they are, None for none, anything else as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)
    try:
        connection.request(method, path, data, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except (OSError, http.client.HTTPException):
        return Answer(0, b"")
    finally:
        connection.close()


def answers_at(path: Path, request: str) -> bool:
    """Whether the server at a unix socket answers a request with 200."""
    connection = http.client.HTTPConnection("localhost")
    try:
        with socket.socket(socket.AF_UNIX) as connection.sock:
            connection.sock.settimeout(_LOOK_S)
            connection.sock.connect(str(path))
            connection.request("GET", request)
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def must(answer: Answer, what: str) -> Answer:
    """The answer, when the server took the request; else RdvError with what it said."""
    if not answer.ok:
        said = answer.body.decode(errors="replace").strip()[:400]
        raise RdvError(f"{what} failed with status {answer.status}: {said}", "see the server's log")
    return answer
