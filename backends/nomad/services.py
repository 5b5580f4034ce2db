"""The Services port on Nomad: service jobs in the namespace of an environment, each scaled alone.

What is registered is what was planned: the job's whole specification is in the plan, with the index of the job that it
was planned over. `rdv scale` and canaries change a job outside of plans; a plan keeps what they have set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rdv.backends.nomad.api import parse_place
from rdv.backends.nomad.drafts import project_folder
from rdv.backends.nomad.jobs import differences
from rdv.backends.nomad.services_api import ServicesApi
from rdv.backends.nomad.services_drafts import Names, job_id, order, read_pin, service_draft
from rdv.backends.nomad.services_files import brings, carry
from rdv.backends.nomad.services_follow import Following, deployment_mark
from rdv.backends.nomad.services_view import instances_of, is_rolling, placement, tries
from rdv.backends.ports_services import (
    Applied,
    Role,
    Rolled,
    Say,
    ServiceChange,
    ServiceJob,
    ServiceState,
    job_name,
)
from rdv.errors import LostRace, NotFound, TimedOut, Unreachable
from rdv.ids import short_id
from rdv.records import Pin

Json = Mapping[str, Any]
Answer = TypeVar("Answer")
_LOOK_S = 0.1
_MOST_DIFFERENCES = 20


class NomadServices:
    """See `rdv.backends.ports_services.Services`.

    place: `NAMESPACE?address=...`, as the cluster's. consul: the prefix of the environment's keys. project, env: whose
    jobs these are. names: what something of the project is called in the catalog.
    """

    local = False

    def __init__(self, place: str, consul: str, project: str, env: str, names: Names) -> None:
        namespace, self._options = parse_place(place)
        self._api = ServicesApi(namespace, self._options)
        self.folder = project_folder(self._options, "")
        self.identities = ("consul", "vault") if self._options.get("vault") else ("consul",)
        self._consul, self._project, self._env, self._names = consul, project, env, names

    def plan(self, wanted: Sequence[ServiceJob], anew: bool = False) -> Sequence[ServiceChange]:
        """See the port. A scaled count stays until rdv.toml's number changes; so does a pin, which is a release's."""
        there, word = self._there(), short_id() if anew else ""
        found = [self._planned(one, there, word) for one in sorted(wanted, key=lambda one: order(one.role))]
        kept = {change.job for change in found}
        for gone in sorted(set(there) - kept):
            meta = there[gone].get("Meta") or {}
            name = job_name(meta.get("rdv_kind", ""), meta.get("rdv_model", ""))
            index = int(there[gone]["JobModifyIndex"])
            found.append(ServiceChange(job=gone, name=name, change="removed", index=index))
        return found

    def apply(self, change: ServiceChange) -> Applied:
        """See the port. The index of the plan is enforced by Nomad, and the job read back for writers beside us."""
        if change.change == "unchanged":
            return Applied(job=change.job, name=change.name, mark=self._on_its_way(change.job))
        if change.change == "removed":
            if int(self._api.job(change.job)["JobModifyIndex"]) != change.index:
                raise LostRace(f"{change.name} was changed after it was planned", "plan again")
            self._api.end(change.job)
            return Applied(job=change.job, name=change.name)
        return Applied(job=change.job, name=change.name, mark=self._api.begin(dict(change.spec), change.index))

    def follow(self, applied: Applied, say: Say, timeout_s: float) -> Rolled:
        """See the port: from the evaluation to its deployment to that one's allocations."""
        return Following(self._api, applied, say).until_done(timeout_s)

    def look(self) -> Sequence[ServiceState]:
        """See the port."""
        found = []
        for job in self._there().values():
            meta, group = job.get("Meta") or {}, job["TaskGroups"][0]
            allocations = self._api.allocations(job["ID"])[1]
            found.append(
                ServiceState(
                    job=job["ID"],
                    role=meta["rdv_kind"],
                    model=meta.get("rdv_model", ""),
                    count=int(group["Count"]),
                    pin=read_pin(meta.get("rdv_pin", "")),
                    rolling=is_rolling(self._api.newest_deployment(job["ID"])),
                    instances=instances_of(allocations),
                )
            )
        return sorted(found, key=lambda one: (order(one.role), one.model))

    def scale(self, role: Role, model: str, count: int) -> Applied:
        """See the port."""
        job, name = job_id(self._project, role, model), job_name(role, model)
        if job not in self._there():
            raise NotFound(f"there is no {name} to scale", f"see `rdv plan --env {self._env}`")
        return Applied(job=job, name=name, mark=self._api.scale(job, role, count))

    def restart(self, job: str, instance: str, timeout_s: float) -> None:
        """See the port. Healthy: the task's newest start is later than before, and it runs.

        A server or a node that does not answer is asked again while there is time.
        """
        until = time.monotonic() + timeout_s
        listed = _asked(lambda: self._api.allocations(job), until)[1]
        before = next((one for one in listed if one["ID"] == instance), None)
        if before is None:
            raise NotFound(f"{job} has no instance {instance}", "see `rdv status`")
        task = str((_asked(lambda: self._api.job(job), until).get("Meta") or {})["rdv_kind"])
        begun = _started(before, task)
        _asked(lambda: self._api.restart(instance, task), until)
        while True:
            now = _asked(lambda: self._api.allocation(instance), until)
            if now["ClientStatus"] == "running" and _started(now, task) > begun:
                return
            if time.monotonic() >= until:
                raise TimedOut(f"{instance} of {job} did not start again within {timeout_s:g} s", "see `rdv status`")
            time.sleep(_LOOK_S)

    def _on_its_way(self, job: str) -> str:
        """The mark of a change that has not ended yet, or has failed and left too little that runs; else empty."""
        deployment = self._api.newest_deployment(job)
        if deployment is None or tries(deployment):
            return ""
        left = deployment["Status"] == "failed" and not self._runs(job, int(deployment["JobVersion"]))
        return deployment_mark(deployment) if is_rolling(deployment) or left else ""

    def _runs(self, job: str, version: int) -> bool:
        """Whether a job runs as often as it ought to, or is another by now than in that version."""
        now = self._api.job(job)
        running = [one for one in self._api.allocations(job)[1] if one["ClientStatus"] == "running"]
        return int(now["Version"]) != version or len(running) >= int(now["TaskGroups"][0]["Count"])

    def _there(self) -> dict[str, Json]:
        """The whole jobs of this project that are not stopped, by id."""
        stubs = self._api.jobs(prefix="rdv-", chosen='Type == "service"', meta=True)
        ours = [one for one in stubs if not one.get("Stop") and self._is_ours(one.get("Meta") or {})]
        return {one["ID"]: self._api.job(one["ID"]) for one in ours}

    def _is_ours(self, meta: Json) -> bool:
        return meta.get("rdv_project") == self._project and meta.get("rdv_env") == self._env and "rdv_kind" in meta

    def _planned(self, wanted: ServiceJob, there: Mapping[str, Json], anew: str) -> ServiceChange:
        name = job_id(wanted.project, wanted.role, wanted.model)
        known = there.get(name)
        count, pin = None, None
        if known is not None:
            meta = known.get("Meta") or {}
            pin, anew = read_pin(meta.get("rdv_pin", "")), anew or meta.get("rdv_anew", "")
            if meta.get("rdv_count") == str(wanted.count):
                count = int(known["TaskGroups"][0]["Count"])
        left = int((known["TaskGroups"][0].get("Update") or {}).get("Canary") or 0) if known is not None else 0
        # how many canaries a rollout had, and the file brought for them, say nothing alone: a change has neither
        carried = known if known is not None and brings(known) else None
        spec, index, differs, held = self._drafted(wanted, count, pin, left, anew, carried)
        if left and differs:
            spec, index, differs, held = self._drafted(wanted, count, pin, 0, anew, carried)
        if carried is not None and differs:
            spec, index, differs, held = self._drafted(wanted, count, pin, 0, anew)
        same = known is not None and not differs
        return ServiceChange(
            job=name,
            name=wanted.name,
            change="unchanged" if same else "new" if known is None else "changed",
            index=index,
            differs=differs[:_MOST_DIFFERENCES] if known is not None else (),
            spec={} if same else spec,
            held=() if same else held,
        )

    def _drafted(
        self,
        wanted: ServiceJob,
        count: int | None,
        pin: Pin | None,
        canaries: int,
        anew: str,
        carried: Json | None = None,
    ) -> tuple[dict[str, Any], int, tuple[str, ...], tuple[str, ...]]:
        """A job's specification, the index of the one that is there, in which fields they differ, why none is placed.

        carried: a job whose brought file this one is to bring as well.
        Fields: a scaling block counts as edited for ever.
        """
        draft = service_draft(
            self._api.namespace, self._options, self._consul, self._names, wanted, count, pin, canaries, anew
        )
        spec = self._api.parse(draft.id, draft.hcl(), draft.values())
        if carried is not None:
            carry(spec, carried)
        found = self._api.plan(spec)
        return spec, found.index, tuple(differences(found.diff)), tuple(placement(found.told))


def _asked(ask: Callable[[], Answer], until: float) -> Answer:
    """What Nomad answers in the end; Unreachable when it does not in time."""
    while True:
        try:
            return ask()
        except Unreachable:
            if time.monotonic() >= until:
                raise
            time.sleep(_LOOK_S)


def _started(allocation: Json, task: str) -> str:
    state = (allocation.get("TaskStates") or {}).get(task) or {}
    return str(state.get("StartedAt") or "") if state.get("State") == "running" else ""
