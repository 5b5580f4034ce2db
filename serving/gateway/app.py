"""The gateway: all goals of a project behind one HTTP application and one bus hub."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from rdv import __version__
from rdv.clock import Clock, SystemClock
from rdv.config import Project
from rdv.serving.bus.port import Hub, Identity, OnLost, OnScores, Scores
from rdv.serving.gateway.desk import Desk, plan_of
from rdv.serving.gateway.mailbox import Mailbox
from rdv.serving.gateway.readiness import Readiness
from rdv.serving.gateway.wheel import Wheel
from rdv.serving.http.types import Reply, Route
from rdv.serving.openapi import document, score_path

Handler = Callable[[bytes], Awaitable[Reply]]
MakeHub = Callable[[OnScores, OnLost], Hub]
DRAIN_LOOK_S = 0.005
_log = logging.getLogger("rdv.gateway")


class Gateway:
    """An application (see `rdv.serving.http.types.App`) that answers the goals of a project."""

    def __init__(self, project: Project, gateway: str, make_hub: MakeHub, clock: Clock | None = None) -> None:
        """gateway: this instance's id, the return address of its requests. Needs a running loop."""
        self.id = gateway
        self.clock: Clock = clock or SystemClock()
        self.draining = False
        self.refusals: Counter[int] = Counter()
        self.hub = make_hub(self._scored, self._lost)
        self._wheel: Wheel[Mailbox] = Wheel(_due, asyncio.get_running_loop(), self.clock)
        config = project.config
        self.desks: dict[str, Desk] = {
            goal: Desk(plan_of(config, goal), project.folder, gateway, self.hub, self._wheel, self.clock)
            for goal in config.goals
        }
        self._places = {key: (desk, place) for desk in self.desks.values() for key, place in desk.places.items()}
        self._readiness = {goal: Readiness(desk, self.hub, self.clock) for goal, desk in self.desks.items()}

    def _scored(self, identity: Identity, scores: Scores, now: float) -> None:
        found = self._places.get((identity.topic, identity.name))
        if found is not None:
            found[0].scored(found[1], scores, now)

    def _lost(self, topic: str, name: str, ids: bytes, reason: str) -> None:
        found = self._places.get((topic, name))
        if found is not None:
            found[0].lost(found[1], ids, reason)

    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        """Path to method to route."""
        table = {"/healthz": {"GET": Route(self._healthz)}, "/readyz": {"GET": Route(self._readyz)}}
        for goal, desk in self.desks.items():
            table[score_path(goal)] = {"POST": Route(desk.score, takes_body=True, admit=True)}
            table[f"/v1/goals/{goal}/openapi.json"] = {"GET": Route(self._openapi(desk))}
        return table

    def refused(self, status: int) -> None:
        """Count a request that was not accepted."""
        self.refusals[status] += 1

    async def reasons(self) -> dict[str, str]:
        """By goal: why its models do not answer here now, empty when they do."""
        if self.draining:
            return dict.fromkeys(self.desks, "this gateway is stopping")
        return {goal: await one.reason() for goal, one in self._readiness.items()}

    async def _healthz(self, body: bytes) -> Reply:
        return Reply(200, b'{"status":"ok"}')

    async def _readyz(self, body: bytes) -> Reply:
        reasons = await self.reasons()
        ready = not any(reasons.values())
        goals = {goal: reason or "ready" for goal, reason in reasons.items()}
        return Reply(200 if ready else 503, msgspec.json.encode({"ready": ready, "goals": goals}))

    def _openapi(self, desk: Desk) -> Handler:
        plan = desk.plan
        data = msgspec.json.encode(document(plan.goal, plan.config, desk.schema.document, __version__))

        async def answer(body: bytes) -> Reply:
            return Reply(200, data)

        return answer

    @property
    def open(self) -> int:
        """Requests accepted and not settled yet."""
        return sum(desk.room.ledger.open for desk in self.desks.values())

    async def drained(self) -> None:
        """Return once nothing is open any more; each request settles by its own deadline."""
        while self.open:
            await asyncio.sleep(DRAIN_LOOK_S)

    def close(self) -> None:
        """Settle what is open with the default and publish what is known of all requests; the hub stays open."""
        for goal, desk in self.desks.items():
            desk.close()
            _log.info("ledger of %s at the end: %s", goal, msgspec.json.encode(desk.room.ledger).decode())
        self._wheel.close()


def _due(box: Mailbox, now: float) -> None:
    box.room.due(box, now)
