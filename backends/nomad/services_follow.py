"""A change of a serving job, followed on Nomad to its end: evaluation, deployment, allocations.

The deployment's id is kept: a revert is another deployment, whose success is this one's failure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rdv.backends.nomad.services_api import ServicesApi
from rdv.backends.nomad.services_view import placement, why
from rdv.backends.ports_services import Applied, Rolled, Say
from rdv.errors import NotAuthorised, NotFound, RdvError, RolloutFailed, TimedOut, Unreachable

Json = Mapping[str, Any]
_LOOK_S = 0.1
_SERVER_S = 60.0
"""How long Nomad may not answer, such as while another of its servers is elected, before following ends with that."""
_LOG_BYTES, _LOG_LINES = 4000, 15
_REVERT_S = 60.0


_WRITES = " | "
_CAUSE_CHARS = 300
_NOTHING = ": Failed tasks"
"""What Nomad says of an allocation with a task that failed, beside the task's own events."""
_DEPLOYMENT = "deployment/"
_GOES_ON = "what ran before, if anything, goes on; `rdv apply --anew` tries the same again once its cause is gone"


def deployment_mark(deployment: Json) -> str:
    """The mark of a change whose deployment is known; those of others are their evaluations."""
    return f"{_DEPLOYMENT}{deployment['ID']}"


class Following:
    """One change. say: told each new state once."""

    def __init__(self, api: ServicesApi, applied: Applied, say: Say) -> None:
        self._api, self._applied, self._say = api, applied, say
        self._said = ""
        self._begun = self._answered = time.monotonic()
        self._until = 0.0
        self._silent: RdvError | None = None

    def until_done(self, timeout_s: float) -> Rolled:
        """See `Services.follow`."""
        self._until = self._begun + timeout_s
        if not self._applied.mark:
            return self._rolled(0)
        deployment = self._deployment()
        if not deployment:
            return self._rolled(self._running())
        while True:
            found = self._asked(lambda: self._api.deployment(deployment))
            if found is not None:
                self._tell(_state(found))
                if found["Status"] == "successful":
                    return self._rolled(_healthy(found))
                if found["Status"] in ("failed", "cancelled"):
                    self._failed(found)
            self._wait("; ".join(self._reasons(deployment)) or "see `rdv status`")

    def _deployment(self) -> str:
        """The deployment that the change's evaluation has begun; empty when it was carried out without one."""
        if self._applied.mark.startswith(_DEPLOYMENT):
            return self._applied.mark.removeprefix(_DEPLOYMENT)
        while True:
            found = self._asked(lambda: self._api.evaluation(self._applied.mark))
            if found is not None and found["Status"] == "complete":
                for reason in placement(found):
                    self._tell(reason)
                return str(found.get("DeploymentID") or "")
            if found is not None and found["Status"] in ("failed", "cancelled", "canceled"):
                what = f"Nomad could not carry out the change of {self._applied.name}"
                raise RolloutFailed(f"{what}: {found.get('StatusDescription') or found['Status']}", "see its log")
            self._wait("its evaluation has not ended")

    def _failed(self, deployment: Json) -> None:
        name, said = self._applied.name, deployment.get("StatusDescription") or deployment["Status"]
        if deployment["Status"] == "cancelled":
            raise RolloutFailed(f"{name}: another change came in between ({said})", "look at `rdv plan` again")
        reasons = self._reasons(str(deployment["ID"]), with_log=True)
        for reason in reasons:
            self._say(f"{name}: {reason}")
        back = self._brought_back(str(deployment["ID"])) if "rolling back" in said.lower() else ""
        raise RolloutFailed(f"{name}: {said.rstrip('.')}{cause(reasons)}", back or _GOES_ON)

    def _brought_back(self, failed: str) -> str:
        """What came of the revert that Nomad has begun by itself."""
        until = time.monotonic() + _REVERT_S
        while time.monotonic() < until:
            newest = self._asked(lambda: self._api.newest_deployment(self._applied.job))
            if newest is not None and newest["ID"] != failed:
                self._tell(f"bringing the version before back: {_state(newest)}")
                if newest["Status"] == "successful":
                    return "the version before was brought back and serves"
                if newest["Status"] in ("failed", "cancelled"):
                    return "the version before could not be brought back: see `rdv status`"
            time.sleep(_LOOK_S)
        return "the version before is being brought back: see `rdv status`"

    def _reasons(self, deployment: str, with_log: bool = False) -> list[str]:
        found = []
        try:
            for one in self._api.made_by(deployment):
                if (one.get("DeploymentStatus") or {}).get("Healthy") is True:
                    continue
                found += [f"{one['ID'][:8]}: {reason}" for reason in why(one)]
                if with_log:
                    found += [f"{one['ID'][:8]}{_WRITES}{line}" for line in self._log(one)]
        except RdvError as error:
            found.append(f"why cannot be told: {error}")
        return found

    def _log(self, allocation: Json) -> list[str]:
        tasks = list(allocation.get("TaskStates") or {})
        try:
            data = self._api.errors(str(allocation["ID"]), tasks[0], _LOG_BYTES) if tasks else b""
        except RdvError:
            return []
        return data.decode(errors="replace").splitlines()[-_LOG_LINES:]

    def _allocations(self) -> list[dict[str, Any]]:
        return self._api.allocations(self._applied.job)[1]

    def _running(self) -> int:
        return sum(one["ClientStatus"] == "running" for one in self._asked(self._allocations) or ())

    def _asked(self, ask: Any) -> Any:
        """What Nomad says; None while it does not answer, for a while."""
        try:
            found = ask()
        except (Unreachable, NotFound, NotAuthorised) as error:
            if isinstance(error, Unreachable):
                self._silent = error
            # a server that has just come back may not know it yet, nor who asks
            if self._silent is None or time.monotonic() - self._answered > _SERVER_S:
                raise
            self._tell(f"waiting for Nomad: {error.what}")
            return None
        self._answered, self._silent = time.monotonic(), None
        return found

    def _wait(self, why_not: str) -> None:
        if time.monotonic() >= self._until:
            if self._silent is not None:
                raise self._silent
            waited = time.monotonic() - self._begun
            raise TimedOut(f"{self._applied.name} was not changed everywhere after {waited:.0f} s", why_not[:1000])
        time.sleep(_LOOK_S)

    def _tell(self, text: str) -> None:
        if text and text != self._said:
            self._said = text
            self._say(f"{self._applied.name}: {text}")

    def _rolled(self, healthy: int) -> Rolled:
        waited_s = time.monotonic() - self._begun
        return Rolled(job=self._applied.job, name=self._applied.name, healthy=healthy, waited_s=waited_s)


def cause(reasons: Sequence[str]) -> str:
    """What a sentence says of many reasons: the first event, and the last line that a task wrote; empty for none."""
    events = [one for one in reasons if _WRITES not in one]
    events = [one for one in events if not one.endswith(_NOTHING)] or events
    lines = [one.partition(_WRITES)[2].strip() for one in reasons if _WRITES in one]
    told = [*events[:1], *(f"its last line is {line[:_CAUSE_CHARS]!r}" for line in [one for one in lines if one][-1:])]
    return f" ({', and '.join(told)})" if told else ""


def _state(deployment: Json) -> str:
    groups = (deployment.get("TaskGroups") or {}).values()
    wanted = sum(int(one["DesiredTotal"]) for one in groups)
    placed = sum(int(one["PlacedAllocs"]) for one in groups)
    return f"{deployment['Status']}, {placed} placed, {_healthy(deployment)} of {wanted} healthy"


def _healthy(deployment: Json) -> int:
    return sum(int(one["HealthyAllocs"]) for one in (deployment.get("TaskGroups") or {}).values())
