"""One goal at the gateway: from a request's bytes to the answer's, by way of mailbox, lanes and policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rdv.breaker import BOOK, Breaker
from rdv.clock import Clock
from rdv.config import Config, Goal
from rdv.enrich import SKIPPING, compile_enricher
from rdv.errors import SchemaViolation
from rdv.ids import message_ids
from rdv.inputs import RowSchema
from rdv.records import canary_name
from rdv.schema import GoalSchema, load_schema
from rdv.serving.bus.port import Events, Hub, Scores
from rdv.serving.gateway.answers import Answers, usable
from rdv.serving.gateway.lanes import Lane
from rdv.serving.gateway.mailbox import Mailbox, Mailroom
from rdv.serving.gateway.policy import Decider, Policy, policy_of
from rdv.serving.gateway.trials import Trials
from rdv.serving.gateway.wheel import Wheel
from rdv.serving.http.types import Refusal, Reply
from rdv.serving.recording.events import DECOY, RECORDER, events_topic

EVENTS_S = 0.05
EVENTS_ROWS = 256
MOST_TURNS = 4


@dataclass(frozen=True, slots=True)
class GoalPlan:
    """What a goal consists of. models: name to bus topic, in the order of rdv.toml, canary models among them."""

    goal: str
    config: Goal
    models: dict[str, str]
    canary_models: frozenset[str]

    def policy(self) -> Policy:
        """The policy of rdv.toml."""
        return policy_of(self.config, [name for name in self.models if name not in self.canary_models])


def plan_of(config: Config, goal: str) -> GoalPlan:
    """A goal's models and topics, out of the whole configuration."""
    one = config.goals[goal]
    models = {name: model.topic() for name, model in config.models.items() if model.goal == goal}
    canaries = {modelling.canary_model for modelling in one.modelling_goals(goal).values()}
    return GoalPlan(goal, one, models, frozenset(canaries - {""}))


def _lookup_breaker(function: str) -> Breaker:
    return BOOK.named(f"lookup {function}", SKIPPING)


class Desk:
    """Takes requests of one goal in, and answers them. `decider` is the policy in force for the next request.

    places: in the mailroom, of every model and then of every model's canary, by topic and name on the bus.
    coming: how many requests (of any goal) are being read right now; a batch waits a moment for their company.
    """

    def __init__(
        self, plan: GoalPlan, folder: Path, gateway: str, hub: Hub, wheel: Wheel[Mailbox], clock: Clock
    ) -> None:
        self.plan, self.names = plan, tuple(plan.models)
        self.schema: GoalSchema = load_schema(plan.config, folder)
        width = len(plan.config.labels) if plan.config.answer == "labels" else 1
        names = [*self.names, *map(canary_name, self.names)]
        self.answers = Answers(plan.goal, gateway, plan.config, names)
        self.room = Mailroom(names, usable(plan.config.answer, width), self._complete, wheel, clock, width)
        self.decider = Decider(plan.policy(), self.names)
        topics = list(plan.models.values()) * 2
        self.places = {(topic, name): place for place, (topic, name) in enumerate(zip(topics, names, strict=True))}
        self.lanes = self._lanes(folder, gateway, hub)
        subject = self.schema.getter(plan.config.subject) if plan.config.subject else None
        schemas = {lane.topic: lane.schema for lane in self.lanes}
        self.trials = Trials(plan.models, schemas, self.room, hub, self.decider, subject)
        self._hub, self._gateway = hub, gateway
        self._loop = asyncio.get_running_loop()
        self._decode, self._monotonic, self._new_id = self.schema.decode, time.monotonic, message_ids()
        self._events: list[Mailbox] = []
        self._events_due: asyncio.TimerHandle | None = None
        self._flush_due = False
        self._turns = 0
        self.coming: Callable[[], int] = lambda: 0

    def _lanes(self, folder: Path, gateway: str, hub: Hub) -> list[Lane]:
        goal, lanes = self.plan.config, []
        for topic, modelling in goal.modelling_goals(self.plan.goal).items():
            rows = self.schema.row_schema(modelling.enrich)
            enricher = compile_enricher(modelling.enrich, folder, self.schema.row_schema(), _lookup_breaker)
            lanes.append(Lane(topic, gateway, hub, rows, self.schema, enricher, goal.budget_ms))
            archives = [DECOY] if modelling.decoy else []
            hub.expect(topic, rows, [*(name for name, at in self.plan.models.items() if at == topic), *archives])
        hub.expect(events_topic(self.plan.goal), RowSchema(), [RECORDER])
        return lanes

    async def score(self, body: bytes) -> Reply:
        """The answer to one request; Refusal 400 names the field that violates the schema."""
        accepted = self._monotonic()
        try:
            request = self._decode(body)
        except SchemaViolation as error:
            raise Refusal(400, "schema", error.what, field=error.field, close=False) from None
        waiter = self._loop.create_future()
        message_id, arms = self._new_id(), self.trials.arms
        decider = self.decider if arms is None else arms.decider(request, message_id)
        box = self.room.open(message_id, decider, accepted, time.time(), waiter)
        try:
            for lane in self.lanes:
                lane.add(box, request)
        except Exception:
            self.room.fail(box)
            raise
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        await waiter
        return self.answers.reply(box)

    def put_in_force(self, policy: Policy) -> None:
        """Have this policy decide about the requests that come from now on."""
        self.decider = Decider(policy, self.names)
        self.trials.put_in_force(self.decider)

    def _flush(self) -> None:
        """Publish what was taken in, at once, or a few turns of the loop later while others are on their way in."""
        if self._turns < MOST_TURNS and self.coming():
            self._turns += 1
            self._loop.call_soon(self._flush)
            return
        self._publish()

    def _publish(self) -> None:
        self._flush_due, self._turns = False, 0
        for lane in self.lanes:
            lane.flush()

    def scored(self, place: int, scores: Scores, now: float) -> None:
        """The hub has brought scores of a model."""
        self.room.scored(place, scores, now)

    def lost(self, place: int, ids: bytes, reason: str) -> None:
        """The hub knows that a model will not score these requests."""
        self.room.lost(place, ids, reason, self._monotonic())

    def _complete(self, box: Mailbox) -> None:
        self._events.append(box)
        if self._events_due is None:
            self._events_due = self._loop.call_later(EVENTS_S, self.flush_events)
        elif len(self._events) == EVENTS_ROWS:
            self._loop.call_soon(self.flush_events)

    def flush_events(self) -> None:
        """Publish what is known of complete requests."""
        if self._events_due is not None:
            self._events_due.cancel()
            self._events_due = None
        boxes, self._events = self._events, []
        if boxes:
            ids = b"".join([box.id for box in boxes])
            records = [self.answers.event(box) for box in boxes]
            self._hub.publish(Events(events_topic(self.plan.goal), self._gateway, ids, records))

    def close(self) -> None:
        """Settle what is open with the default and publish what is known of all requests."""
        self._publish()
        self.room.close()
        self.flush_events()
