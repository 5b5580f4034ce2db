"""Which requests are taken in at all: what may not pass although it is well-formed HTTP. Pure.

Some of it the parser refuses as well; nothing here relies on that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rdv.serving.http.types import Refusal, Route

_SUSPICIOUS = frozenset({"transfer-encoding", "content-encoding", "upgrade", "expect", "trailer", "te"})
_JSON = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})

CHUNKED = -1
"""A body whose length nobody has declared."""


def path_of(target: bytes) -> str:
    """The path of a request's target, without its query; Refusal 400 when it is not one of this server's own."""
    if not target.isascii():
        raise Refusal(400, "bad_target", "the request target must be ASCII")
    path = target.decode().partition("?")[0]
    if "://" in path:
        raise Refusal(400, "bad_target", "the request target must be a path")
    return path


def find(routes: Mapping[str, Mapping[str, Route]], method: str, path: str) -> Route:
    """The route of a path and method; Refusal 404 or 405. Paths are whole ones: nothing is decoded or resolved."""
    methods = routes.get(path)
    if methods is None:
        raise Refusal(404, "not_found", "no such path")
    route = methods.get(method)
    if route is None:
        allowed = ", ".join(sorted(methods))
        raise Refusal(405, "method_not_allowed", f"this path takes {allowed}", allow=allowed)
    return route


def check(items: Sequence[tuple[str, str]], takes_body: bool, body_bytes: int) -> int:
    """The declared length of a request's body, or CHUNKED; Refusal for what may not pass.

    items: all headers, names in lower case, in order.
    """
    headers = dict(items)
    if "host" not in headers:
        raise Refusal(400, "bad_host", "exactly one Host header is required")
    if len(headers) != len(items) or not _SUSPICIOUS.isdisjoint(headers):
        _look_closer(items)
    length = CHUNKED if "transfer-encoding" in headers else _length(headers.get("content-length", "0"))
    if not takes_body:
        if length:
            raise Refusal(400, "unexpected_body", "this path takes no body")
        return 0
    if headers.get("content-type", "").lower() not in _JSON:
        raise Refusal(415, "bad_content_type", "the body must be application/json")
    if length > body_bytes:
        raise Refusal(413, "too_large", f"the body may have {body_bytes} bytes")
    return length


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Refusal(400, "bad_length", "Content-Length is not a number")
    return int(text[:20])


def _look_closer(items: Sequence[tuple[str, str]]) -> None:
    names = [name for name, _ in items]
    headers = dict(items)
    for name in ("host", "content-length", "content-type", "transfer-encoding", "expect", "content-encoding"):
        if names.count(name) > 1:
            raise Refusal(400, "repeated_header", f"{name} is there more than once")
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].strip().lower() != "chunked":
            raise Refusal(400, "bad_transfer_encoding", "the only transfer coding taken is chunked, once")
        if "content-length" in headers:
            raise Refusal(400, "bad_length", "Content-Length and Transfer-Encoding exclude each other")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal(415, "bad_content_encoding", "the body must not be compressed")
    if "upgrade" in headers:
        raise Refusal(400, "no_upgrade", "this server speaks HTTP/1.1 and nothing else")
    if headers.get("expect", "100-continue").strip().lower() != "100-continue":
        raise Refusal(417, "bad_expectation", "the only expectation met is 100-continue")


class Client(Protocol):
    """Whatever knows where a request comes from, as `address:port`; it is asked only when somebody wants to know."""

    @property
    def client(self) -> str:
        """The client's address and port."""
        ...


class Admission:
    """How many requests are in flight, in all and by client address; each admitted one has to be released."""

    __slots__ = ("_clients", "_most", "_most_by_client", "draining", "in_flight")

    def __init__(self, most: int, most_by_client: int) -> None:
        self._most, self._most_by_client = most, most_by_client
        self._clients: dict[str, int] | None = {} if most_by_client < most else None
        self.in_flight = 0
        self.draining = False

    def admit(self, of: Client) -> str:
        """Count one request in and return the key to release it with; Refusal 503."""
        if self.draining:
            raise Refusal(503, "draining", "this gateway is stopping", retry_after_s=1)
        if self.in_flight >= self._most:
            raise Refusal(503, "overloaded", "too many requests are in flight", retry_after_s=1)
        key = ""
        if self._clients is not None:
            key = of.client.rpartition(":")[0]
            count = self._clients.get(key, 0)
            if count >= self._most_by_client:
                raise Refusal(503, "client_limit", "too many requests of this client are in flight", retry_after_s=1)
            self._clients[key] = count + 1
        self.in_flight += 1
        return key

    def release(self, key: str) -> None:
        """Count a request out, with the key that it was admitted with."""
        self.in_flight -= 1
        if self._clients is not None:
            left = self._clients[key] - 1
            if left:
                self._clients[key] = left
            else:
                del self._clients[key]
