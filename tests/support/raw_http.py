"""Requests as bytes, right or wrong on purpose, to the goal `sum`."""

from __future__ import annotations

PATH = b"/v1/goals/sum/score"
BODY = b'{"a": 1.5, "b": 2}'
HOST = b"host: x\r\n"
JSON = b"content-type: application/json\r\n"


def post(body: bytes = BODY, *headers: bytes, path: bytes = PATH, length: bytes | None = None) -> bytes:
    """A request to score. length: what it says of its body's, the truth unless given."""
    size = b"%d" % len(body) if length is None else length
    return b"POST %b HTTP/1.1\r\n%b%b%bcontent-length: %b\r\n\r\n%b" % (path, HOST, JSON, b"".join(headers), size, body)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A request to score whose body comes in chunks."""
    head = b"POST %b HTTP/1.1\r\n%b%btransfer-encoding: chunked\r\n\r\n" % (PATH, HOST, JSON)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def head(method: bytes, target: bytes, *headers: bytes) -> bytes:
    """A request without a body."""
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join(headers))
