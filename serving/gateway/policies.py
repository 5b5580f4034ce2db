"""The policies in force: rdv.toml's until one is put into the registry, swapped atomically, a version each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from rdv.backends.ports import Entry, Registry
from rdv.errors import ConfigError, LostRace, NotFound
from rdv.serving.follow import follow
from rdv.serving.gateway.desk import Desk
from rdv.serving.gateway.policy import Policy, check_policy, decode_policy, encode_policy
from rdv.threads import in_daemon_thread, tell_loop

_log = logging.getLogger("rdv.policy")


def policy_key(goal: str) -> str:
    """The registry key of a goal's policy."""
    return f"goals/{goal}/policy"


class PolicyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to put in force: a policy, or null for rdv.toml's. expect: the version it replaces, else LostRace."""

    policy: Policy | None
    expect: str = ""


class PolicyState(msgspec.Struct, frozen=True):
    """What is in force for a goal. origin: `rdv.toml` or `registry`. problem: why a newer one was not taken."""

    goal: str
    version: str
    policy: Policy
    origin: str
    problem: str = ""


@dataclass(slots=True)
class _Held:
    index: int = 0
    origin: str = "rdv.toml"
    problem: str = ""


class PolicyBoard:
    """Keeps each desk's `decider` what the registry says, and changes what the registry says."""

    def __init__(self, desks: Mapping[str, Desk], registry: Registry) -> None:
        self._desks, self._registry = desks, registry
        self._held = {goal: _Held() for goal in desks}
        self._loop = asyncio.get_running_loop()
        self._wanted = True

    def start(self) -> None:
        """Follow the registry, from threads that end with the process."""
        for goal in self._desks:

            def told(entry: Entry | None, goal: str = goal) -> None:
                tell_loop(self._loop, self.take, goal, entry)

            def failed(error: Exception, goal: str = goal) -> None:
                _log.warning("the policy of %s cannot be watched, it stays as it is: %s", goal, error)

            follow(self._registry, policy_key(goal), told, failed, lambda: self._wanted)

    def stop(self) -> None:
        """Follow the registry no longer."""
        self._wanted = False

    def state(self, goal: str) -> PolicyState:
        """What is in force for a goal; NotFound for an unknown one."""
        desk, held = self._desk(goal), self._held[goal]
        return PolicyState(goal, desk.decider.version, desk.decider.policy, held.origin, held.problem)

    def take(self, goal: str, entry: Entry | None) -> None:
        """Put in force what the registry holds; one that does not fit rdv.toml changes nothing and is told."""
        desk, held = self._desk(goal), self._held[goal]
        if entry is not None and entry.index < held.index:
            return
        try:
            policy = desk.plan.policy() if entry is None else self._checked(desk, decode_policy(entry.value))
        except ConfigError as error:
            held.problem = str(error)
            _log.warning("the registry's policy of %s is not taken: %s", goal, error)
            return
        held.index = entry.index if entry else 0
        held.origin, held.problem = ("registry" if entry else "rdv.toml"), ""
        if policy.version() != desk.decider.version:
            desk.put_in_force(policy)
            _log.info("policy %s is in force for %s", desk.decider.version, goal)

    async def change(self, goal: str, change: PolicyChange) -> PolicyState:
        """Put a policy in force here and, through the registry, everywhere.

        ConfigError says what is wrong with it, LostRace that somebody else changed it first.
        """
        desk = self._desk(goal)
        if change.policy is not None:
            self._checked(desk, change.policy)
        if change.expect not in ("", desk.decider.version):
            raise LostRace(f"the policy of {goal} is {desk.decider.version}, not {change.expect}", "look at it again")
        entry = await in_daemon_thread(f"policy of {goal}", lambda: self._write(goal, change))
        self.take(goal, entry)
        return self.state(goal)

    def _write(self, goal: str, change: PolicyChange) -> Entry | None:
        key = policy_key(goal)
        expect = self._held[goal].index if change.expect else None
        if change.policy is None:
            self._registry.delete(key, expect)
            return None
        return self._registry.put(key, encode_policy(change.policy), expect)

    def _desk(self, goal: str) -> Desk:
        if goal not in self._desks:
            raise NotFound(f"no goal is named {goal!r}", "see `rdv status`")
        return self._desks[goal]

    @staticmethod
    def _checked(desk: Desk, policy: Policy) -> Policy:
        plan = desk.plan
        problems = check_policy(policy, plan.config, plan.models, plan.canary_models)
        if problems:
            raise ConfigError(f"the policy does not fit {plan.goal}: " + "; ".join(problems), "see `rdv config check`")
        return policy
