"""What Nomad keeps for rdv: parent jobs of steps and of task classes, registered by plan, listed, and reaped.

A job that is there already is changed only over the state that the plan has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import Any, Literal

from rdv.backends.nomad import reaper as nomad_reaper
from rdv.backends.nomad.api import NomadApi, parse_place
from rdv.backends.nomad.drafts import STEP_PREFIX, Draft, step_draft, task_draft, task_prefix
from rdv.backends.nomad.pipelines import pipeline_draft
from rdv.backends.ports import JobChange, JobInfo, Reaped, Resources, TaskClass
from rdv.errors import UsageError

_MOST_DIFFERENCES = 20


class NomadJobs:
    """The `Jobs` port on one namespace of a Nomad cluster, with that of its pipelines where there is one.

    folder: where the project lies here. place: as `NomadCluster`'s. consul: whether pipelines get an identity in
    Consul; None: that is not known, and their job is left alone.
    """

    def __init__(self, folder: Path, place: str, consul: bool | None = None) -> None:
        namespace, self._options = parse_place(place)
        self._api, self._consul, self._folder = NomadApi(namespace, self._options), consul, folder
        other = self._options.get("pipelines", "")
        self._pipelines = NomadApi(other, self._options) if other and other != self._api.namespace else None

    def register(
        self, classes_mb: Sequence[int], tasks: Sequence[TaskClass], plan_only: bool = False
    ) -> Sequence[JobChange]:
        """Register the jobs of resource classes, task classes and pipelines; plan_only: tell what that would do."""
        drafts = self._drafts(classes_mb, tasks)
        if self._consul is not None:
            pipelines = (self._pipelines or self._api).namespace
            drafts.append(pipeline_draft(pipelines, self._options, self._consul))
        return register_all(self._options, drafts, plan_only)

    def list(self) -> Sequence[JobInfo]:
        """The registered jobs of ours, by id."""
        stubs = [one for api in self._all() for one in api.jobs(chosen='ParentID == ""', meta=True)]
        found = [_info(one) for one in stubs if _ours(one)]
        return sorted(found, key=lambda one: (one.namespace, one.job))

    def prune(
        self, classes_mb: Sequence[int], tasks: Sequence[TaskClass], older_than_s: float, plan_only: bool = False
    ) -> Sequence[JobInfo]:
        """Forget jobs of steps and task classes that nobody needs any more; plan_only: tell which."""
        needed = {draft.id for draft in self._drafts(classes_mb, tasks)}
        ours = {task_prefix(one) for one in tasks}
        before_ns = (time.time() - older_than_s) * 1e9
        found = [
            _info(stub)
            for stub in self._api.jobs(chosen='ParentID == ""', meta=True)
            if _ours(stub) and stub["ID"] not in needed and _is_idle(stub, ours)
            and int(stub.get("SubmitTime") or 0) < before_ns
        ]  # fmt: skip
        gone = [one for one in found if plan_only or nomad_reaper.forget(self._api, one.job)]
        return sorted(gone, key=lambda one: one.job)

    def _drafts(self, classes_mb: Sequence[int], tasks: Sequence[TaskClass]) -> MutableSequence[Draft]:
        namespace = self._api.namespace
        drafts = [step_draft(namespace, self._options, Resources(memory_mb=size)) for size in classes_mb]
        return drafts + [task_draft(namespace, self._options, one, str(self._folder)) for one in tasks]

    def reap(
        self, ended_s: Callable[[str], float | None], is_awaited: Callable[[str], bool] = lambda artifact: False
    ) -> Sequence[Reaped]:
        """Stop what nobody waits for any more and what runs past its wall clock limit; see decision 0026."""
        return nomad_reaper.reap(self._api, ended_s, is_awaited, time.time())

    def _all(self) -> Iterator[NomadApi]:
        yield self._api
        if self._pipelines is not None:
            yield self._pipelines


def register_all(options: Mapping[str, str], drafts: Sequence[Draft], plan_only: bool = False) -> list[JobChange]:
    """Register jobs, each over what was there when it was planned; plan_only: tell what that would do.

    options: of the place; every draft names its namespace. All are planned before the first is registered. LostRace
    when somebody else changed one meanwhile: those before it are registered, and doing it again goes on.
    """
    names = [(draft.namespace, draft.id) for draft in drafts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two jobs would be {min(twice)[1]}", "models a/b and a.b cannot both be jobs: rename one")
    apis: dict[str, NomadApi] = {}
    planned = []
    for draft in drafts:
        api = apis.setdefault(draft.namespace, NomadApi(draft.namespace, dict(options)))
        job = api.parse(draft.id, draft.hcl(), draft.values())
        found = api.plan(job)
        planned.append((api, job, found.index, _change(draft, found.index, found.diff)))
    if not plan_only:
        for api, job, index, change in planned:
            if change.change != "unchanged":
                api.submit(job, index)
    return [change for _, _, _, change in planned]


def _change(draft: Draft, index: int, diff: Mapping[str, Any]) -> JobChange:
    differs = tuple(differences(diff))
    same = diff.get("Type") == "None"
    what: Literal["new", "changed", "unchanged"] = "new" if not index else "unchanged" if same else "changed"
    return JobChange(
        job=draft.id,
        namespace=draft.namespace,
        change=what,
        about=draft.about,
        differs=differs[:_MOST_DIFFERENCES] if what == "changed" else (),
    )


def differences(diff: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The names of the fields that a plan finds different, each with the blocks that it is in."""
    for field in diff.get("Fields") or ():
        if field.get("Type") != "None":
            yield f"{above}{field.get('Name')}"
    for kind in ("TaskGroups", "Tasks", "Objects"):
        for one in diff.get(kind) or ():
            if one.get("Type") != "None":
                yield from differences(one, f"{above}{one.get('Name')}.")


def _is_idle(stub: Mapping[str, Any], prefixes: Collection[str]) -> bool:
    """Whether nothing of a job waits or runs, it being one of a size of step, or of a project's task classes."""
    info = _info(stub)
    known = info.job.startswith(STEP_PREFIX) or any(info.job.startswith(prefix) for prefix in prefixes)
    return known and not info.pending and not info.running


def _ours(stub: Mapping[str, Any]) -> bool:
    return "rdv_kind" in (stub.get("Meta") or {})


def _info(stub: Mapping[str, Any]) -> JobInfo:
    meta, children = stub.get("Meta") or {}, ((stub.get("JobSummary") or {}).get("Children") or {})
    return JobInfo(
        job=stub["ID"],
        namespace=stub["Namespace"],
        kind=meta["rdv_kind"],
        about=meta.get("rdv_about", ""),
        memory_mb=int(meta.get("rdv_memory_mb") or 0),
        pending=int(children.get("Pending") or 0),
        running=int(children.get("Running") or 0),
        dead=int(children.get("Dead") or 0),
    )

