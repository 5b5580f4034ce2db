"""The ops listener: what a role tells whoever looks after it, over TCP. It is read only: nothing here changes anything.

`/live` (gateways): it can be dialled. `/health` of a gateway sends a probe the way of a request, through the bus and
the models and back; that of a worker has its model score a row. `/ready` (gateways): every goal is answered by its
models. `/metrics`, `/status`: as on the admin socket.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from rdv.addresses import address
from rdv.config import Serve
from rdv.errors import ConfigError
from rdv.serving.gateway.app import Gateway
from rdv.serving.gateway.metrics import Metrics
from rdv.serving.gateway.policies import PolicyBoard
from rdv.serving.gateway.readiness import NOBODY
from rdv.serving.gateway.status_view import gateway_view
from rdv.serving.http.edge import Bounds, HttpServer, listening_socket
from rdv.serving.http.types import TEXT_HEADERS, Reply, Route

FIRST_S = 10.0
"""How long a gateway that has just begun waits for its models before it counts as well without them."""
BODY_BYTES = 1024
CONNECTIONS = 64


class GatewayOps:
    """A gateway's (an application, see `rdv.serving.http.types.App`)."""

    def __init__(self, gateway: Gateway, board: PolicyBoard, facts: Mapping[str, Any]) -> None:
        """facts: what else the status shows."""
        self._gateway, self._board, self._facts = gateway, board, facts
        self._metrics, self._begun = Metrics(gateway), gateway.clock.monotonic()

    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        """Path to method to route."""
        return {
            "/live": {"GET": Route(self._live)},
            "/health": {"GET": Route(self._health)},
            "/ready": {"GET": Route(self._ready)},
            "/metrics": {"GET": Route(self._show_metrics)},
            "/status": {"GET": Route(self._status)},
        }

    def refused(self, status: int) -> None:
        """Refusals here are in no ledger."""

    async def _live(self, body: bytes) -> Reply:
        return told({})

    async def _health(self, body: bytes) -> Reply:
        """Well: each goal's models score a probe. A goal without any model gets defaults, and another gateway would

        give nothing else: that is well, too, once the models have had the time to come.
        """
        new = self._gateway.clock.monotonic() - self._begun < FIRST_S
        reasons = await self._gateway.reasons()
        return told({goal: "" if reason == NOBODY and not new else reason for goal, reason in reasons.items()})

    async def _ready(self, body: bytes) -> Reply:
        return told(await self._gateway.reasons())

    async def _show_metrics(self, body: bytes) -> Reply:
        return Reply(200, self._metrics.text(), TEXT_HEADERS)

    async def _status(self, body: bytes) -> Reply:
        return Reply(200, msgspec.json.encode(gateway_view(self._gateway, self._board, self._facts)))


class RoleOps:
    """A worker's or a decoy's (an application, see `rdv.serving.http.types.App`)."""

    def __init__(self, check: Callable[[], Awaitable[str]], status: Callable[[], msgspec.Struct]) -> None:
        """check: why it is not well, empty when it is. status: its record."""
        self._check, self._record = check, status

    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        """Path to method to route."""
        return {"/health": {"GET": Route(self._health)}, "/status": {"GET": Route(self._status)}}

    def refused(self, status: int) -> None:
        """Refusals here are in no ledger."""

    async def _health(self, body: bytes) -> Reply:
        return told({"role": await self._check()})

    async def _status(self, body: bytes) -> Reply:
        return Reply(200, msgspec.json.encode(self._record()))


def told(reasons: Mapping[str, str]) -> Reply:
    """An answer that says of each thing that it is well, or why not: 200 when all are."""
    well = not any(reasons.values())
    body = {"well": well, "at": time.time(), "reasons": {name: reason for name, reason in reasons.items() if reason}}
    return Reply(200 if well else 503, msgspec.json.encode(body))


def ops_socket(serve: Serve) -> socket.socket | None:
    """The bound socket of the listener, None when there is to be none; ConfigError when it cannot be had."""
    if serve.ops_port < 0:
        return None
    try:
        return listening_socket(serve.host, serve.ops_port)
    except OSError as error:
        problem = f"cannot listen on {serve.host}:{serve.ops_port}: {error.strerror or error}"
        raise ConfigError(problem, "choose another with `--set serve.ops_port=...`") from error


def ops_server(app: GatewayOps | RoleOps, sock: socket.socket) -> HttpServer:
    """The listener, not served yet. sock: as `ops_socket` gave it."""
    return HttpServer(app, sock, Bounds(body_bytes=BODY_BYTES, connections=CONNECTIONS))


def address_of(sock: socket.socket) -> str:
    """host:port of a listener."""
    host, port = sock.getsockname()[:2]
    return address(host, port)
