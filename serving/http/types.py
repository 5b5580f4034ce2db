"""What an application behind our HTTP edge sees: routes and replies, never a server's own types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

Headers = list[tuple[str, str]]

JSON_HEADERS: Headers = [("content-type", "application/json"), ("server", "rdv")]
TEXT_HEADERS: Headers = [("content-type", "text/plain; charset=utf-8"), ("server", "rdv")]


class Reply:
    """A whole answer: status, headers (its length and date are the server's business) and body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Headers = JSON_HEADERS) -> None:
        self.status, self.body, self.headers = status, body, headers


class Refusal(Exception):
    """Why a request is not served. code: one word for programs; message: for people, with nothing internal in it.

    field: what in the body is wrong. close: end the connection too, since its rest cannot be trusted.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str = "",
        retry_after_s: int = 0,
        allow: str = "",
        close: bool = True,
    ) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message, self.field = status, code, message, field
        self.retry_after_s, self.allow, self.close = retry_after_s, allow, close

    def reply(self, request_id: str) -> Reply:
        """The refusal as an answer that names the request."""
        body = {"error": self.code, "message": self.message, "request_id": request_id}
        if self.field:
            body["field"] = self.field
        headers = list(JSON_HEADERS)
        if self.close:
            headers.append(("connection", "close"))
        if self.retry_after_s:
            headers.append(("retry-after", str(self.retry_after_s)))
        if self.allow:
            headers.append(("allow", self.allow))
        return Reply(self.status, msgspec.json.encode(body), headers)


@dataclass(frozen=True, slots=True)
class Route:
    """What serves one path. takes_body: JSON is read, within the listener's bounds, and handed over.

    admit: the request counts as in flight, within the listener's bounds, until `handle` returns.
    """

    handle: Callable[[bytes], Awaitable[Reply]]
    takes_body: bool = False
    admit: bool = False


class App(Protocol):
    """An application: a fixed list of paths, each with its methods."""

    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        """Path to method to route; asked once."""
        ...

    def refused(self, status: int) -> None:
        """Told of every request that was not served, by status."""
        ...
