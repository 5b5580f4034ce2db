"""Ends what nobody waits for any more: dispatches of ours whose run or pipeline is over, whose parent job was purged,

or that are past their wall clock limit although their own runner should have ended them (a frozen process).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rdv.backends.nomad.api import NomadApi
from rdv.backends.nomad.drafts import STEP_PREFIX, TASK_PREFIX
from rdv.backends.nomad.verdict import newest_of
from rdv.backends.ports import Reaped
from rdv.errors import NotAuthorised, NotFound

Json = Mapping[str, Any]
GRACE_S = 600.0
"""How long a run may be over before its steps are stopped: who runs it again meanwhile joins them."""
WALL_GRACE_S = 60.0
"""How far past its limit a step may be: its own runner ends it, this is for one that cannot."""
_LEFT = ("its run is over", "the pipeline that dispatched it is gone")
_NS = 1e9


def reap(
    api: NomadApi, ended_s: Callable[[str], float | None], is_awaited: Callable[[str], bool], now_s: float
) -> list[Reaped]:
    """Stop the dispatches of one namespace that are to be stopped. ended_s: when a run ended, None: it goes on, or

    nobody knows here. is_awaited: whether another run waits for the step with a token, of which this is the first part.
    """
    stubs = api.jobs(chosen=f'ID matches "^({STEP_PREFIX}|{TASK_PREFIX})" and (ParentID == "" or Status != "dead")')
    parents = {one["ID"] for one in stubs if not one.get("ParentID")}
    found = []
    for stub in stubs:
        if not stub.get("ParentID") or stub.get("Stop"):
            continue
        with suppress(NotFound):  # it was collected or purged between the two looks
            job = api.job(stub["ID"])
            meta = job.get("Meta") or {}
            artifact = str(job.get("DispatchIdempotencyToken") or "").partition("#")[0]
            reason = why(
                purged=stub["ParentID"] not in parents,
                ended_s=ended_s(meta["rdv_run"]) if meta.get("rdv_run") else None,
                left_s=_left_s(api, meta.get("rdv_by", ""), int(job.get("SubmitTime") or 0) / _NS),
                late_s=_late_s(api, stub["ID"], meta, now_s),
                now_s=now_s,
            )
            if reason and not (reason in _LEFT and artifact and is_awaited(artifact)):
                api.stop(stub["ID"])
                found.append(
                    Reaped(job=stub["ID"], namespace=api.namespace, run=meta.get("rdv_run", ""), reason=reason)
                )
    return found


def forget(api: NomadApi, parent: str) -> bool:
    """Purge a parent job of which nothing waits or runs; False when something does by now.

    What is dispatched at the very moment is seen afterwards: then the job is put back, as if nothing had been done.
    """
    if _live_children(api, parent):
        return False
    job = api.job(parent)
    api.purge(parent)
    if not _live_children(api, parent):
        return True
    api.submit(job)
    return False


def _live_children(api: NomadApi, parent: str) -> bool:
    return bool(api.jobs(chosen=f'ParentID == "{parent}" and Status != "dead"'))


def why(*, purged: bool, ended_s: float | None, left_s: float | None, late_s: float, now_s: float) -> str:
    """Why a dispatch is to be stopped, empty when it is not. Pure.

    purged: its parent job is gone. ended_s: when its run ended; left_s: when the allocation of the pipeline that
    dispatched it ended; both None when it has not or nobody knows. late_s: how long it is past its wall clock limit.
    """
    if purged:
        return "its parent job was purged"
    if ended_s is not None and now_s - ended_s > GRACE_S:
        return _LEFT[0]
    if left_s is not None and now_s - left_s > GRACE_S:
        return _LEFT[1]
    if late_s > WALL_GRACE_S:
        return f"it is {late_s:.0f} s past its wall clock limit and does not end by itself"
    return ""


def _left_s(api: NomadApi, allocation: str, submitted_s: float) -> float | None:
    """When the allocation that dispatched something ended; None while it has not, or is not for us to see."""
    if not allocation:
        return None
    try:
        found = api.allocation(allocation)
    except NotFound:  # collected: that it ended is all that is known
        return submitted_s
    except NotAuthorised:
        return None
    if found["ClientStatus"] not in ("complete", "failed", "lost"):
        return None
    return int(found.get("ModifyTime") or 0) / _NS


def _late_s(api: NomadApi, job: str, meta: Json, now_s: float) -> float:
    try:
        limit_s = float(meta.get("rdv_wall_s") or 0)
    except ValueError:
        return 0.0
    allocations: Sequence[Json] = api.allocations(job)[1] if limit_s else ()
    if not allocations or (newest := newest_of(allocations))["ClientStatus"] != "running":
        return 0.0
    events = [event for state in (newest.get("TaskStates") or {}).values() for event in state.get("Events") or ()]
    begun = [int(event["Time"]) for event in events if event["Type"] == "Started"]
    return now_s - min(begun) / _NS - limit_s if begun else 0.0
