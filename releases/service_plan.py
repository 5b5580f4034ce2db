"""What `rdv apply` does, decided beforehand: serving jobs, parent jobs, and policies that are not rdv.toml's.

A plan can be kept as a file. It is carried out over the very state that it was made over, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from rdv.backends.ports import JobChange, Registry
from rdv.backends.ports_services import Applied, ServiceChange, Services
from rdv.errors import ConfigError, LostRace

Register = Callable[[bool], Sequence[JobChange]]
"""Registers the parent jobs of an environment; told whether only to say what that would do."""


class PolicyChange(msgspec.Struct, frozen=True, kw_only=True):
    """A policy in the registry that is not rdv.toml's, and is to be taken out. index: of its registry entry."""

    goal: str
    key: str
    index: int
    version: str


class Recorded(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A contract that counted when something was planned. digest: of its file."""

    consumer: str
    digest: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, in this order: parent jobs, serving jobs, policies.

    contracts: what consumers expected then, all of which it keeps; None where it keeps nothing, for it takes all away.
    """

    project: str
    env: str
    jobs: tuple[JobChange, ...] = ()
    services: tuple[ServiceChange, ...] = ()
    policies: tuple[PolicyChange, ...] = ()
    contracts: tuple[Recorded, ...] | None = None

    @property
    def changes(self) -> int:
        """How many things it changes."""
        changes = [*(one.change for one in self.jobs), *(one.change for one in self.services)]
        return sum(change != "unchanged" for change in changes) + len(self.policies)


def encode_plan(plan: Plan) -> bytes:
    """A plan as JSON for a file."""
    return msgspec.json.encode(plan)


def decode_plan(data: bytes, project: str, env: str) -> Plan:
    """The plan that `encode_plan` made these bytes of; ConfigError when they are none, or another project's."""
    try:
        plan = msgspec.json.decode(data, type=Plan)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"the file holds no plan: {error}", "make one with `rdv plan --out FILE`") from None
    if (plan.project, plan.env) != (project, env):
        whose = f"project {plan.project!r}, environment {plan.env!r}"
        raise ConfigError(f"the plan is that of {whose}", "name that environment, or plan again")
    return plan


def begin_parents(plan: Plan, register: Register) -> None:
    """Register the parent jobs when that still does what was planned; LostRace when it does not, nothing being done."""
    if not any(one.change != "unchanged" for one in plan.jobs):
        return
    if tuple(register(True)) != plan.jobs:
        raise LostRace("a parent job is not as it was when this was planned", "plan again")
    register(False)


def check_services(plan: Plan, now: Sequence[ServiceChange]) -> None:
    """Return when the serving jobs are still what they were; now: another plan of this moment. LostRace otherwise."""
    indexes = {one.job: one.index for one in now}
    for change in plan.services:
        if indexes.get(change.job, 0) != change.index:
            raise LostRace(f"{change.name} was changed after it was planned", "plan again")


def check_contracts(plan: Plan, now: Sequence[Recorded]) -> None:
    """Return when consumers expect what they expected; now: what counts at this moment. LostRace names one else."""
    moved = sorted(set(plan.contracts or ()) ^ set(now))
    if moved:
        who = moved[0].consumer
        raise LostRace(f"consumer {who!r} expects something else than when this was planned", "plan again")


def begin(plan: Plan, services: Services) -> list[Applied]:
    """Begin all changes of serving jobs; LostRace at the first that somebody else has changed meanwhile.

    What was begun by an apply that did not see the end of it, and is on its way still, counts as begun.
    """
    begun = [(change, services.apply(change)) for change in plan.services]
    return [applied for change, applied in begun if applied.mark or change.change != "unchanged"]


def take_policies(plan: Plan, registry: Registry) -> None:
    """Take the policies out of the registry; LostRace when somebody has put another one there."""
    for one in plan.policies:
        registry.delete(one.key, one.index)
