"""The admin side of a gateway: metrics, status, policies and draining, on a listener of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from rdv.errors import ConfigError, LostRace
from rdv.serving.gateway.app import Gateway
from rdv.serving.gateway.metrics import Metrics
from rdv.serving.gateway.policies import PolicyBoard, PolicyChange
from rdv.serving.gateway.status_view import gateway_view
from rdv.serving.http.types import TEXT_HEADERS, Refusal, Reply, Route


class Admin:
    """An application (see `rdv.serving.http.types.App`) that shows and changes a gateway."""

    def __init__(
        self, gateway: Gateway, board: PolicyBoard, facts: Mapping[str, Any], drain: Callable[[], None]
    ) -> None:
        """facts: what else the status shows (addresses, pid, ...). drain: takes no more requests in from now on."""
        self._gateway, self._board, self._facts, self._drain = gateway, board, facts, drain
        self._metrics = Metrics(gateway)

    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        """Path to method to route."""
        table = {
            "/metrics": {"GET": Route(self._show_metrics)},
            "/status": {"GET": Route(self._status)},
            "/drain": {"POST": Route(self._start_drain)},
        }
        for goal in self._gateway.desks:
            table[f"/goals/{goal}/policy"] = {
                "GET": Route(self._policy(goal)),
                "PUT": Route(self._change(goal), takes_body=True),
            }
        return table

    def refused(self, status: int) -> None:
        """Refusals of the admin side are in no ledger."""

    async def _show_metrics(self, body: bytes) -> Reply:
        return Reply(200, self._metrics.text(), TEXT_HEADERS)

    async def _status(self, body: bytes) -> Reply:
        return Reply(200, msgspec.json.encode(gateway_view(self._gateway, self._board, self._facts)))

    async def _start_drain(self, body: bytes) -> Reply:
        self._drain()
        return Reply(202, b'{"draining":true}')

    def _policy(self, goal: str) -> Callable[[bytes], Awaitable[Reply]]:
        async def show(body: bytes) -> Reply:
            return Reply(200, msgspec.json.encode(self._board.state(goal)))

        return show

    def _change(self, goal: str) -> Callable[[bytes], Awaitable[Reply]]:
        async def change(body: bytes) -> Reply:
            try:
                wanted = msgspec.json.decode(body, type=PolicyChange)
                state = await self._board.change(goal, wanted)
            except msgspec.MsgspecError as error:
                raise Refusal(400, "policy", str(error), close=False) from None
            except ConfigError as error:
                raise Refusal(400, "policy", error.what, close=False) from None
            except LostRace as error:
                raise Refusal(409, "lost_race", error.what, close=False) from None
            return Reply(200, msgspec.json.encode(state))

        return change
