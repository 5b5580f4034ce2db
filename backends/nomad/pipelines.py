"""Whole pipelines as dispatches of one parameterized Nomad job, whose namespace need not be that of their steps."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rdv.backends.nomad.api import NomadApi, parse_place
from rdv.backends.nomad.drafts import Draft, project_folder, where_it_runs
from rdv.backends.nomad.verdict import TASK as STEP
from rdv.backends.nomad.verdict import judge, newest_of
from rdv.backends.ports import PIPELINE_STARTS, Outcome, PipelineJob, Status
from rdv.errors import NotFound, Unreachable, UsageError

PARENT = "rdv-pipeline"
TASK = "pipeline"
STATE = "state"
PAYLOAD_BYTES = 16384
_CPU_MHZ = 200
_MEMORY_MB = 512
_LOG_S = 0.3
_TRIES = 3


class NomadPipelines:
    """The `Pipelines` port. place: that of the cluster; `pipelines=` names the namespace, the steps' own by default.

    consul: whether the pipelines' registry is there: in a namespace of their own they have an identity for it.
    """

    def __init__(self, place: str, consul: bool) -> None:
        namespace, self._options = parse_place(place)
        self._consul = consul and "pipelines" in self._options
        self.folder = project_folder(self._options, "")
        self._steps = NomadApi(namespace, self._options)
        self._api = NomadApi(self._options.get("pipelines") or namespace, self._options)

    def submit(self, run: str, request: bytes) -> str:
        """Dispatch a pipeline, or find the one of this run; its job."""
        payload = zlib.compress(request, 9)
        if len(payload) > PAYLOAD_BYTES:
            what = f"run {run}: its request has {len(payload)} bytes, more than Nomad's {PAYLOAD_BYTES}"
            raise UsageError(what, "give the goal's schema as a file")
        for left in reversed(range(_TRIES)):
            try:
                return self._api.dispatch(PARENT, payload, {"rdv_run": run}, run)[0]
            except NotFound:
                if not left:
                    raise
                self._api.submit(pipeline_job(self._api, self._options, self._consul))
            except Unreachable:  # the run is its token: it may be repeated, whether it was done or not
                if not left:
                    raise
                time.sleep(0.1 * (_TRIES - left))
        raise AssertionError

    def look(self, job: str) -> PipelineJob:
        """How a job stands, or ended; NotFound when it was collected or purged."""
        return look(self._api, job)

    def left(self, job: str, path: str) -> bytes:
        """A file of the state folder in a job's newest allocation; empty when it is not there."""
        newest = self._newest(job)
        return self._api.file(newest, f"alloc/{STATE}/{path}") if newest else b""

    def stop(self, job: str) -> None:
        """Stop a job: its process gets SIGTERM and half a minute."""
        self._api.stop(job)

    def logs(self, job: str, ended: Callable[[], bool] | None = None) -> Iterator[bytes]:
        """A job's output so far, in chunks; with `ended`, until that says so. NotFound once Nomad has forgotten it."""
        self._api.job(job)
        return self._log(job, ended or (lambda: True))

    def stop_steps(self, run: str, spared: Callable[[str], bool]) -> list[str]:
        """Stop the steps that a run dispatched and that have not ended, wherever it was carried out."""
        stopped = []
        for short in self._steps.jobs(chosen='ParentID != "" and Status != "dead"'):
            job = self._steps.job(short["ID"])
            meta, token = job.get("Meta") or {}, job.get("DispatchIdempotencyToken") or ""
            if meta.get("rdv_run") == run and "rdv_step" in meta and not spared(token.partition("#")[0]):
                self._steps.stop(job["ID"])
                stopped.append(job["ID"])
        return stopped

    def _newest(self, job: str) -> str:
        found = self._api.allocations(job)[1]
        return str(max(found, key=lambda one: int(one["CreateIndex"]))["ID"]) if found else ""

    def _log(self, job: str, ended: Callable[[], bool]) -> Iterator[bytes]:
        offset, allocation, last = 0, "", False
        while True:
            newest = self._newest(job)
            if newest != allocation:
                offset, allocation = 0, newest
            for data in self._api.log(allocation, TASK, offset) if allocation else ():
                offset += len(data)
                yield data
            if last:
                return
            last = ended()
            time.sleep(_LOG_S)  # also before the last look: Nomad takes a moment from the pipe to the file


def look(api: NomadApi, job_id: str) -> PipelineJob:
    """How a pipeline's job stands, by its newest allocation; one that waits for its next start has not ended."""
    _, allocations = api.allocations(job_id)
    job = api.job(job_id)
    as_step = [{**one, "TaskStates": {STEP: (one.get("TaskStates") or {}).get(TASK)}} for one in allocations]
    evaluations = [] if allocations else api.evaluations(job_id)
    outcome = judge(job_id, job, as_step, evaluations)
    if outcome.status.ended and job.get("Status") != "dead" and not job.get("Stop"):
        outcome = Outcome(step=job_id, status=Status.QUEUED, reason=outcome.reason)
    return PipelineJob(outcome, bool(job.get("Stop")) or _is_drained(allocations))


def _is_drained(allocations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the newest allocation has to leave its node and gets no other place: so Nomad drains since 1.11."""
    if not allocations:
        return False
    newest = newest_of(allocations)
    return bool((newest.get("DesiredTransition") or {}).get("MigrateDisablePlacement"))


def pipeline_draft(
    namespace: str, options: Mapping[str, str], consul: bool, cron: str = "", request: str = "", on: bool = True
) -> Draft:
    """The parameterized job, or with a cron expression a periodic one, as it ought to be."""
    how = where_it_runs(namespace, options)
    variables = {
        **{name: value for name, value in how.items() if name != "vault"},
        "cpu_mhz": _CPU_MHZ,
        "memory_mb": _MEMORY_MB,
        "restarts": PIPELINE_STARTS - 1,
        "vault_role": how["vault"],
        "consul": consul,
        "crons": [cron] if cron else [],
        "enabled": on,
        "request": request,
    }
    about = "pipelines, dispatched once a run"
    return Draft(id=PARENT, namespace=namespace, template="pipeline.nomad.hcl", variables=variables, about=about)


def pipeline_job(
    api: NomadApi, options: Mapping[str, str], consul: bool, cron: str = "", request: str = "", on: bool = True
) -> dict[str, Any]:
    """The same as Nomad's own JSON."""
    draft = pipeline_draft(api.namespace, options, consul, cron, request, on)
    return api.parse(draft.id, draft.hcl(), draft.values())
