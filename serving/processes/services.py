"""The embedded member of the Services port: the processes of `rdv serve` on this machine, counted in a file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from rdv.backends.ports_services import (
    Applied,
    Role,
    Rolled,
    Say,
    ServiceChange,
    ServiceInstance,
    ServiceJob,
    ServiceState,
    job_name,
)
from rdv.errors import CorruptState, LostRace, NotFound, TimedOut, UsageError
from rdv.serving.processes.counts import REMOVED, Counts, changing, read_counts, write_counts
from rdv.serving.processes.records import RoleRecord, read_records
from rdv.serving.processes.specs import DECOY, GATEWAY, WORKER
from rdv.serving.processes.supervisor import SUPERVISOR

_LOOK_S = 0.05
_ROLES = (DECOY, WORKER, GATEWAY)


class LocalServices:
    """See `rdv.backends.ports_services.Services`. state: the environment's folder. There are no proxies here.

    A job's id is its name. `follow` returns at once where nothing serves: `rdv serve` starts what is wanted.
    """

    local, folder, identities = True, "", ()

    def __init__(self, state: Path) -> None:
        self._state, self._run = state, state / "run"

    def plan(self, wanted: Sequence[ServiceJob], anew: bool = False) -> Sequence[ServiceChange]:
        """See the port."""
        if anew:
            raise UsageError("the processes of `rdv serve` are not replaced from here", "end it and start it again")
        now = read_counts(self._state)
        listed = sorted((one for one in wanted if one.role in _ROLES), key=lambda one: _ROLES.index(one.role))
        found = [_change(now, one) for one in listed]
        gone = sorted(now.known - {one.name for one in listed})
        return [*found, *(_removal(now, one) for one in gone)]

    def apply(self, change: ServiceChange) -> Applied:
        """See the port. A revision of the whole file is no change of this job's own line."""
        if change.change == "unchanged":
            return Applied(job=change.job, name=change.name)
        with changing(self._state) as now:
            counts, declared = dict(now.counts), dict(now.declared)
            if counts.get(change.job) != change.spec["was"] or declared.get(change.job) != change.spec["said"]:
                raise LostRace(f"{change.name} was changed after it was planned", "plan again")
            counts[change.job], declared[change.job] = change.spec["count"], change.spec["declared"]
            write_counts(self._state, Counts(revision=now.revision + 1, counts=counts, declared=declared))
        return Applied(job=change.job, name=change.name, mark=change.job)

    def follow(self, applied: Applied, say: Say, timeout_s: float) -> Rolled:
        """See the port."""
        begun = time.monotonic()
        while applied.mark:
            records, wanted = read_records(self._run), read_counts(self._state).counts.get(applied.job, 0)
            if not any(one.role == SUPERVISOR for one in records):
                say(f"{applied.name}: nothing serves here now; `rdv serve` starts it")
                break
            ready = [one for one in _of(records, applied.job) if _is_ready(one)]
            if len(ready) == wanted == len(_of(records, applied.job)):
                return _rolled(applied, wanted, begun)
            if time.monotonic() - begun >= timeout_s:
                what = f"{len(ready)} of {wanted} processes of {applied.name} are ready after {timeout_s:g} s"
                raise TimedOut(what, "see `rdv status`")
            time.sleep(_LOOK_S)
        return _rolled(applied, 0, begun)

    def look(self) -> Sequence[ServiceState]:
        """See the port."""
        now, records = read_counts(self._state), read_records(self._run)
        return [_seen(name, now.counts.get(name, 0), _of(records, name)) for name in sorted(now.known, key=_place)]

    def scale(self, role: Role, model: str, count: int) -> Applied:
        """See the port. A machine has one gateway and one decoy, or none."""
        name = job_name(role, model)
        if role != WORKER and count > 1:
            raise UsageError(f"one machine serves through one {role}", "a cluster has as many as you like: --env")
        with changing(self._state) as now:
            if name not in now.known:
                raise NotFound(f"there is no {name} to scale", "see `rdv plan`, then `rdv apply`")
            counts = {**now.counts, name: count}
            write_counts(self._state, replace(now, revision=now.revision + 1, counts=counts))
        return Applied(job=name, name=name, mark=name)

    def restart(self, job: str, instance: str, timeout_s: float) -> None:
        """See the port. `rdv serve` starts what has ended."""
        records = _of(read_records(self._run), job)
        before = next((one for one in records if _id(one) == instance), None)
        if before is None:
            raise NotFound(f"{job} has no process {instance}", "see `rdv status`")
        os.kill(before.pid, signal.SIGTERM)
        until = time.monotonic() + timeout_s
        while True:
            now = [one for one in _of(read_records(self._run), job) if one.replica == before.replica]
            if any(one.pid != before.pid and _is_ready(one) for one in now):
                return
            if time.monotonic() >= until:
                raise TimedOut(f"{instance} of {job} did not start again within {timeout_s:g} s", "see `rdv status`")
            time.sleep(_LOOK_S)


def _change(now: Counts, wanted: ServiceJob) -> ServiceChange:
    if wanted.role != WORKER and wanted.count > 1:
        wanted = replace(wanted, count=1)
    name, declared = wanted.name, now.declared.get(wanted.name)
    is_new = wanted.name not in now.known
    same = declared == wanted.count
    differs = () if same or is_new else (f"count {now.counts[name]} -> {wanted.count}",)
    said = {"was": now.counts.get(name), "said": declared}
    return ServiceChange(
        job=name,
        name=name,
        change="unchanged" if same else "new" if is_new else "changed",
        index=now.revision,
        differs=differs,
        spec={} if same else {"count": wanted.count, "declared": wanted.count, **said},
    )


def _removal(now: Counts, name: str) -> ServiceChange:
    spec = {"was": now.counts.get(name), "said": now.declared[name], "count": 0, "declared": REMOVED}
    return ServiceChange(job=name, name=name, change="removed", index=now.revision, spec=spec)


def _of(records: Sequence[RoleRecord], job: str) -> list[RoleRecord]:
    role, _, model = job.partition(" ")
    return [one for one in records if one.role == role and (not model or one.name == model)]


def _is_ready(record: RoleRecord) -> bool:
    """Whether a process does what it can: a worker with nothing to serve, since nothing was released, does."""
    told = record.details
    idle = told.get("heard") and not (told.get("version") or told.get("loading") or told.get("refused"))
    return record.state == "ready" or bool(idle)


def _id(record: RoleRecord) -> str:
    return f"{record.replica}-{record.pid}"


def _seen(name: str, count: int, records: Sequence[RoleRecord]) -> ServiceState:
    role, _, model = name.partition(" ")
    instances = tuple(
        ServiceInstance(id=_id(one), state="running", healthy=_is_ready(one)) for one in records
    )
    return ServiceState(job=name, role=role, model=model, count=count, instances=instances)


def _place(name: str) -> tuple[int, str]:
    role = name.partition(" ")[0]
    if role not in _ROLES:
        raise CorruptState(f"there is no role {role!r}", "delete serving/counts.json in the state folder")
    return _ROLES.index(role), name


def _rolled(applied: Applied, healthy: int, begun: float) -> Rolled:
    return Rolled(job=applied.job, name=applied.name, healthy=healthy, waited_s=time.monotonic() - begun)
