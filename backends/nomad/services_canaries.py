"""The Canaries port on Nomad: a new version of a model's worker job, with the pin in its specification.

The mark is the job version that holds the canaries. Nothing but the pin, the number of canaries and
the file that Nomad is to bring differs from what ran before, so that dropping them is going back to the version before
the pin, and promoting them changes what is in the job for good. Another number of them is another version of the job:
Nomad ends canaries of an older one before it starts those of the newer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from rdv.backends.nomad.api import parse_place
from rdv.backends.nomad.services_api import ServicesApi
from rdv.backends.nomad.services_drafts import job_id, pin_text, read_pin
from rdv.backends.nomad.services_files import Failure, bring, failure, source
from rdv.backends.nomad.services_view import is_rolling, why
from rdv.backends.ports_services import CanaryState
from rdv.errors import LostRace, NotFound, Refused, Unreachable
from rdv.manifest import Manifest
from rdv.records import Pin

Json = Mapping[str, Any]
_MOST_CHARS = 300


class NomadCanaries:
    """See `rdv.backends.ports_services.Canaries`. Arguments as those of `NomadServices`."""

    def __init__(
        self, place: str, consul: str, project: str, env: str, names: object = None, store: str = "", secrets: str = ""
    ) -> None:
        """store, secrets: those of the environment, from which Nomad may fetch the files of versions."""
        namespace, options = parse_place(place)
        self._api, self._project, self._env = ServicesApi(namespace, options), project, env
        self._come_from = source(store, secrets)

    def start(self, model: str, pin: Pin, count: int, manifest: Manifest | None = None) -> str:
        """See the port. It is registered over the very job that was read."""
        job = self._api.job(self._id(model))
        if job.get("Stop"):
            raise NotFound(f"model {model} has no worker job", f"`rdv apply --env {self._env}` makes it")
        ours = _pin(job) == pin
        if ours and _canaries(job) == count:
            return str(job["Version"])
        if not ours and is_rolling(self._api.newest_deployment(job["ID"])):
            raise LostRace(f"the workers of {model} are being changed", "wait for that, then do it again")
        made = pinned(job, pin, count)
        bring(made, self._come_from, manifest)
        self._api.begin(made, int(job["JobModifyIndex"]))
        return str(self._api.job(job["ID"])["Version"])

    def find(self, model: str, pin: Pin) -> str:
        """See the port."""
        try:
            job = self._api.job(self._id(model))
        except NotFound:
            return ""
        return str(job["Version"]) if _pin(job) == pin and not job.get("Stop") else ""

    def look(self, model: str, mark: str) -> CanaryState:
        """See the port."""
        job, version = self._api.job(self._id(model)), int(mark)
        deployment = self._deployment(job["ID"], version)
        if deployment is None:
            state = "gone" if int(job["Version"]) > version else "starting"
            return CanaryState(mark=mark, pin=_pin(job) or Pin("", 0), state=state)  # type: ignore[arg-type]
        own = self._api.made_by(str(deployment["ID"]))
        found = state_of(mark, self._pin_of(job, version), deployment, own)
        if found.state in ("starting", "failed"):
            for failed in filter(None, (failure(one, self._come_from) for one in own)):
                return self._undelivered(found, failed)
        return found

    def promote(self, model: str, mark: str) -> None:
        """See the port.

        Nomad refuses what is promoted already, and its answer may be lost: whether they are is read from it then.
        """
        deployment = self._deployment(self._id(model), int(mark))
        if deployment is None:
            raise Refused(f"the canaries of {model} have not begun", "wait for them")
        if _is_promoted(deployment):
            return
        try:
            self._api.promote(str(deployment["ID"]))
        except (Refused, Unreachable):
            if not _is_promoted(self._api.deployment(str(deployment["ID"]))):
                raise

    def drop(self, model: str, mark: str) -> None:
        """See the port. The job goes back to the version before the pin, if it is still that of the canaries."""
        job, version = self._api.job(self._id(model)), int(mark)
        if int(job["Version"]) != version or job.get("Stop"):
            return
        before = before_pin(self._api.versions(str(job["ID"])), job)
        if before is None:
            told = f"Nomad does not keep what the job of {model} was before its canaries any more"
            raise Refused(told, f"`rdv promote {model}`, then `rdv rollback {model}`")
        self._api.revert(str(job["ID"]), before, version)

    def _undelivered(self, state: CanaryState, failed: Failure) -> CanaryState:
        """The state of canaries that have no file."""
        look = f"`rdv artifacts verify {failed.artifact} --env {self._env}`"
        remedy = f"once {look} finds nothing wrong, type the same again"
        reason = f"Nomad could not download {failed.source}: {failed.why[:_MOST_CHARS]}"
        return replace(state, reason=reason, remedy=remedy)

    def _id(self, model: str) -> str:
        return job_id(self._project, "worker", model)

    def _deployment(self, name: str, version: int) -> dict[str, Any] | None:
        listed = [one for one in self._api.deployments(name) if int(one["JobVersion"]) == version]
        return max(listed, key=lambda one: int(one["CreateIndex"])) if listed else None

    def _pin_of(self, job: Json, version: int) -> Pin:
        if int(job["Version"]) != version:
            try:
                job = self._api.version(str(job["ID"]), version)
            except NotFound:
                return Pin("", 0)
        return _pin(job) or Pin("", 0)


def pinned(job: Json, pin: Pin, count: int) -> dict[str, Any]:
    """A worker's job with a pin and so many canaries; where they stand is in worker.nomad.hcl. Pure."""
    made = copy.deepcopy(dict(job))
    made["Meta"] = {**(made.get("Meta") or {}), "rdv_pin": pin_text(pin)}
    [group] = made["TaskGroups"]
    group["Update"] = {**(group.get("Update") or {}), "Canary": count, "AutoRevert": True, "AutoPromote": False}
    [task] = group["Tasks"]
    task["Config"] = {**task["Config"], "args": [*task["Config"]["args"][:-1], pin_text(pin)]}
    for service in task.get("Services") or ():
        service["CanaryMeta"] = {**(service.get("CanaryMeta") or {}), "canary": pin_text(pin)}
    return made


def before_pin(versions: Iterable[Json], job: Json) -> int | None:
    """The newest version of a job that has another pin than it has now; None when none is kept. Pure."""
    others = [int(one["Version"]) for one in versions if _pin(one) != _pin(job)]
    return max((one for one in others if one < int(job["Version"])), default=None)


def state_of(mark: str, pin: Pin, deployment: Json, allocations: list[dict[str, Any]]) -> CanaryState:
    """How canaries stand, by their deployment and its allocations. Pure."""
    group, status = _group(deployment), deployment["Status"]
    wanted, healthy = int(group.get("DesiredCanaries") or 0), int(group.get("HealthyAllocs") or 0)
    reasons = [f"{one['ID'][:8]}: {text}" for one in allocations for text in list(why(one))[-1:]]
    reason = ""
    if status == "successful":
        state = "promoted"
    elif status == "cancelled":
        state = "gone"
    elif status == "failed":
        state, reason = "failed", "; ".join([deployment.get("StatusDescription") or "", *reasons]).strip("; ")
    elif group.get("Promoted"):
        state = "promoting"
    else:
        state, reason = ("healthy", "") if wanted and healthy >= wanted else ("starting", "; ".join(reasons))
    return CanaryState(mark=mark, pin=pin, state=state, wanted=wanted, healthy=min(healthy, wanted), reason=reason)  # type: ignore[arg-type]


def _group(deployment: Json) -> Json:
    groups: list[Json] = list((deployment.get("TaskGroups") or {}).values())
    return groups[0] if groups else {}


def _canaries(job: Json) -> int:
    return int((job["TaskGroups"][0].get("Update") or {}).get("Canary") or 0)


def _is_promoted(deployment: Json) -> bool:
    return deployment["Status"] == "successful" or bool(_group(deployment).get("Promoted"))


def _pin(job: Json) -> Pin | None:
    return read_pin((job.get("Meta") or {}).get("rdv_pin", ""))
