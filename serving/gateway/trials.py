"""The rollouts of one goal's models at one gateway: what their rows say, put in force for the next request at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rdv.inputs import RowSchema
from rdv.records import Rollout, canary_name
from rdv.serving.bus.port import Hub
from rdv.serving.gateway.arms import Arms, Trial
from rdv.serving.gateway.mailbox import Mailroom
from rdv.serving.gateway.policy import Decider


class Trials:
    """arms: who decides about the next request; None while no rollout is on. known: each model's newest rollout."""

    def __init__(
        self,
        topics: Mapping[str, str],
        schemas: Mapping[str, RowSchema],
        room: Mailroom,
        hub: Hub,
        decider: Decider,
        subject: Callable[[Any], Any] | None,
    ) -> None:
        """topics: by model, in the order of the mailroom, whose second half are the canaries. schemas: by topic."""
        self.arms: Arms | None = None
        self.known: dict[str, Trial] = {}
        self._topics, self._schemas = topics, schemas
        self._places = {model: place for place, model in enumerate(topics)}
        self._room, self._hub, self._decider, self._subject = room, hub, decider, subject
        self._expect()

    def take(self, model: str, rollout: Rollout | None) -> None:
        """Put in force what a model's row says; None: there is none."""
        own = self._places[model]
        if rollout is None:
            self.known.pop(model, None)
        else:
            trial = Trial(rollout, own, own + len(self._places), self.known.get(model))
            self.known[model] = trial
            if rollout.on:
                self._room.pins[trial.canary] = rollout.version
        topic, name = self._topics[model], canary_name(model)
        if rollout is not None and rollout.on:
            self._hub.expect(topic, self._schemas[topic], [name])
        else:
            self._hub.unexpect(topic, name)
        self._expect()

    def put_in_force(self, decider: Decider) -> None:
        """Have another policy decide."""
        self._decider = decider
        self._expect()

    def _expect(self) -> None:
        """Have mailboxes that are opened from now on expect the canaries of rollouts that are on, and no others."""
        on = [trial for trial in self.known.values() if trial.rollout.on]
        count = len(self._places)
        canaries = (1 << count) - 1 << count
        self._room.unexpected = canaries & ~sum(1 << trial.canary for trial in on)
        self.arms = Arms(self._decider, on, self._subject) if on else None

    def view(self) -> dict[str, dict[str, Any]]:
        """For `rdv status`: each model's newest rollout, and what became of the requests of either arm."""
        return {
            model: {
                "version": trial.rollout.version,
                "number": trial.rollout.number,
                "state": trial.rollout.state.value,
                "on": trial.rollout.on,
                "answers": trial.rollout.answers,
                "share": trial.rollout.share,
                "canaries": trial.rollout.canaries,
                "assigned_by": "message id" if self._subject is None else "subject",
                "replicas": [
                    {"replica": one.replica, "version": one.version}
                    for one in self._hub.replicas(self._topics[model])
                    if one.name == canary_name(model)
                ],
                "arms": dict(zip(("own", "canary"), [tally.summary() for tally in trial.tallies], strict=True)),
            }
            for model, trial in sorted(self.known.items())
        }
