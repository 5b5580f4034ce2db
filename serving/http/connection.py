"""One HTTP/1.1 connection: bytes to requests, one handled at a time, answers in their order. The one file that knows

the parser (llhttp, by httptools). It adds what the parser does not give: bounds on heads and bodies, a fixed list of
paths and methods, refusals that end the connection, answers that nobody reads.
"""

from __future__ import annotations

import asyncio
import http
import logging
import re
import time
from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, cast

import httptools

from rdv.serving.http.guards import check, find, path_of
from rdv.serving.http.types import JSON_HEADERS, Headers, Refusal, Reply, Route
from rdv.supervise import handle

if TYPE_CHECKING:
    from rdv.serving.http.edge import HttpServer, Patience

_log = logging.getLogger("rdv.http")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_HEADERS = 100
_MOST_DISCARDED = 1 << 20
_READ_BYTES = 1 << 18
_METHOD = re.compile(rb"[A-Z]{1,20} ")
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


class _Request:
    """One whole request, or why it is refused. keep: whether the connection may go on after it."""

    __slots__ = ("body", "keep", "refusal", "route", "silent")

    def __init__(self, route: Route | None, body: bytes, keep: bool, refusal: Refusal | None, silent: bool) -> None:
        self.route, self.body, self.keep, self.refusal, self.silent = route, body, keep, refusal, silent


class _Stop(Exception):
    """Makes the parser stop: what follows on this connection is never looked at."""


class Connection(asyncio.Protocol):
    """One client. Its requests are handled one after the other; while one is, no more is read than has arrived."""

    __slots__ = (
        "_body", "_body_bytes", "_chunks", "_client", "_discarded", "_ended", "_head_bytes", "_headers", "_in_body",
        "_in_head", "_leaving", "_parser", "_paused", "_ready", "_route", "_server", "_size", "_target", "_transport",
        "_writable", "patience", "task",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self.patience: Patience | None = None
        self.task: asyncio.Task[None] | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._ready: deque[_Request] = deque()
        self._headers: list[tuple[str, str]] = []
        self._target, self._body = b"", b""
        self._client = ""
        self._in_head = self._in_body = self._ended = self._leaving = self._paused = False
        self._writable = True
        self._head_bytes = self._size = self._body_bytes = self._chunks = self._discarded = 0
        self._route: Route | None = None

    # what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._server.opened(self):
            self._server.watch(self, self._server.idle)
        else:
            self._ended = True
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._ready.clear()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return self._discard(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not self._ended:
                self._broke(error)
        except httptools.HttpParserUpgrade:
            self._refuse(Refusal(400, "no_upgrade", "this server speaks HTTP/1.1 and nothing else"))
        except httptools.HttpParserError as error:
            self._malformed(error, data)
        if self._in_head or not (self._in_body or self._ended or self.task or self._ready):
            self._head_bytes += len(data)  # blank lines before a request count as part of its head
            if self._head_bytes > self._server.bounds.header_bytes:
                self._refuse(_too_many_headers())
        elif self._in_body:
            self._body_bytes += len(data)  # chunks may have extensions, which are no part of a body
            if self._body_bytes > 2 * self._server.bounds.body_bytes + _READ_BYTES:
                self._refuse(_too_large(self._server.bounds.body_bytes))
        self._proceed()

    def eof_received(self) -> bool:
        """A client that has said all may still get its answers."""
        self._ended = self._leaving = True
        self._server.rest(self)
        return self.task is not None or bool(self._ready)

    def pause_writing(self) -> None:
        self._writable = False
        self._server.watch(self, self._server.unread)

    def resume_writing(self) -> None:
        self._writable = True
        self._server.rest(self)
        self._proceed()

    # what the parser tells

    def on_message_begin(self) -> None:
        self._in_head = True
        self._headers, self._target, self._route = [], b"", None

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            self._refuse(Refusal(400, "bad_body", "headers behind a body are not taken"))
            raise _Stop
        headers = self._headers
        headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))
        self._size += len(name) + len(value)
        if len(headers) > _MOST_HEADERS or self._size > self._server.bounds.header_bytes:
            self._refuse(_too_many_headers())
            raise _Stop

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = self._size = self._chunks = 0
        try:
            self._look()
        except Refusal as refusal:
            self._refuse(refusal)
            raise _Stop from None
        self._in_body, self._body, self._body_bytes = True, b"", 0

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        most = self._server.bounds.body_bytes
        self._size += len(data)
        if self._size > most or self._chunks > 64 + most // 256:
            self._refuse(_too_large(most))
            raise _Stop
        self._body = self._body + data if self._body else data

    def on_message_complete(self) -> None:
        self._in_body, self._size = False, 0
        self._ready.append(_Request(self._route, self._body, self._parser.should_keep_alive(), None, False))

    # what follows

    def _look(self) -> None:
        """Find the route of the request whose head is there; Refusal when it may not pass."""
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            raise Refusal(400, "bad_version", "this server speaks HTTP/1.1")
        method = self._parser.get_method().decode()
        self._route = find(self._server.routes, method, path_of(self._target))
        if check(self._headers, self._route.takes_body, self._server.bounds.body_bytes) and self._expects():
            self._transport.write(_CONTINUE)

    def _expects(self) -> bool:
        return any(name == "expect" for name, _ in self._headers)

    def _proceed(self) -> None:
        """Begin the next request when one is whole, and decide how long this connection may stay as it is."""
        server = self._server
        if self.task is not None or not self._writable:
            if not self._paused and self._ready:
                self._paused = True
                self._transport.pause_reading()
            return
        if self._ready:
            server.rest(self)
            server.starting += 1
            self.task = handle(server.loop, self._serve(self._ready.popleft()))
        elif self._ended:
            self._part()
        elif self._in_head or self._in_body or self._head_bytes:
            wanted = server.body if self._in_body else server.head
            if self.patience is not wanted:
                server.watch(self, wanted)
        elif self._leaving or server.ending:
            self._part()
        elif self.patience is not server.idle:
            server.watch(self, server.idle)
        if self._paused and not self._ready and self.task is None:
            self._paused = False
            self._transport.resume_reading()

    async def _serve(self, request: _Request) -> None:
        server = self._server
        server.starting -= 1
        try:
            reply = await self._answer(request)
        except Refusal as refusal:
            server.app.refused(refusal.status)
            reply = refusal.reply(server.new_id().hex())
        except Exception as error:
            server.app.refused(500)
            request_id = server.new_id().hex()
            _log.exception("request %s failed: %s", request_id, error)
            reply = Refusal(500, "internal", "something went wrong here").reply(request_id)
        self._send(reply, request)
        self.task = None
        self._proceed()

    async def _answer(self, request: _Request) -> Reply:
        if request.refusal is not None:
            raise request.refusal
        route = request.route
        assert route is not None
        if not route.admit:
            return await route.handle(request.body)
        admission = self._server.admission
        key = admission.admit(self)
        try:
            return await route.handle(request.body)
        finally:
            admission.release(key)

    def _send(self, reply: Reply, request: _Request) -> None:
        if self._transport.is_closing():
            return
        closes = ("connection", "close") in reply.headers
        if not closes and (not request.keep or self._server.ending):
            reply.headers, closes = [*reply.headers, ("connection", "close")], True
        head = _head(reply.status, reply.headers, len(reply.body))
        self._transport.write(head if request.silent else head + reply.body)
        if closes:
            self._ended = True
            self._ready.clear()

    @property
    def client(self) -> str:
        """The client's address and port; empty on a unix socket."""
        if not self._client:
            peer = self._transport.get_extra_info("peername")
            self._client = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        return self._client

    # how it ends

    def _malformed(self, error: httptools.HttpParserError, data: bytes) -> None:
        if isinstance(error, httptools.HttpParserInvalidMethodError) and _METHOD.match(data):
            self._refuse(Refusal(405, "method_not_allowed", "there is no such method here", allow="GET, POST"))
        elif self._in_body:
            self._refuse(Refusal(400, "bad_body", "the body is malformed or was cut off"))
        elif "Content-Length" in str(error):
            self._refuse(Refusal(400, "bad_length", "one Content-Length or one Transfer-Encoding, not both"))
        elif "Transfer-Encoding" in str(error):
            self._refuse(Refusal(400, "bad_transfer_encoding", "the only transfer coding taken is chunked, once"))
        else:
            self._refuse(Refusal(400, "bad_request", "this is not HTTP/1.1"))

    def _broke(self, error: Exception) -> None:
        _log.error("a request could not be read: %r", error.__context__)
        self._refuse(Refusal(400, "bad_request", "this request cannot be read"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, in its turn, and look at nothing more of what this client sends."""
        if self._ended:
            return
        silent = self._route is None and self._parser.get_method() == b"HEAD"
        self._ended, self._in_head, self._in_body = True, False, False
        self._ready.append(_Request(None, b"", False, refusal, silent))

    def body_is_late(self) -> None:
        """The rest of a body has not come in time."""
        self._refuse(Refusal(408, "body_timeout", "the body did not arrive in time"))
        self._proceed()

    def finish(self) -> None:
        """End after the request that is being read or handled, at once when there is none."""
        if self.task is None and not (self._ready or self._in_head or self._in_body or self._ended):
            self.hang_up()

    def hang_up(self) -> None:
        """Close without a word."""
        self._ended = True
        self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever was not sent."""
        self._ended = True
        self._transport.abort()

    def _part(self) -> None:
        """Close our side, and let the client read its answer before its side is closed too.

        Closing while it still sends would reset the connection, and the answer could be lost.
        """
        if self._transport.is_closing() or self.patience is self._server.parting:
            return
        self._ended = True
        if self._leaving or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._server.watch(self, self._server.parting)
        self._transport.write_eof()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _MOST_DISCARDED:
            self.abort()


def _too_many_headers() -> Refusal:
    return Refusal(431, "headers_too_large", "the headers are too many or too long")


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"the body may have {most} bytes, in few chunks")


class _Date:
    """The Date header's value, made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second, self._text = 0, ""

    def text(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


_date = _Date()
_HEADS: dict[int, str] = {}


def _head(status: int, headers: Headers, length: int) -> bytes:
    """The head of an answer; that of the usual headers is made once a status."""
    first = _HEADS.get(status) if headers is JSON_HEADERS else None
    if first is None:
        first = f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}\r\n"
        first += "".join([f"{name}: {value}\r\n" for name, value in headers])
        if headers is JSON_HEADERS:
            _HEADS[status] = first
    return f"{first}date: {_date.text()}\r\ncontent-length: {length}\r\n\r\n".encode("latin-1")
