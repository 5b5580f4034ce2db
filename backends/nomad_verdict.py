"""What Nomad's own records say about a step. Pure: takes decoded JSON, gives an outcome.

A dispatched job says little of its end: a cancelled one reads as complete, a dead one may have failed. What counts are
the events of the newest allocation's task and, while there is none, the evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from rdv.backends.ports import Outcome, Status

Json = Mapping[str, Any]
TASK = "step"
_NS = 1e9


def judge(step: str, job: Json, allocations: Sequence[Json], evaluations: Sequence[Json] = ()) -> Outcome:
    """How a dispatched job stands, or how it ended; a cancelled one has no reason: who asked for it knows that."""
    if not allocations:
        if job.get("Stop"):
            return Outcome(step=step, status=Status.CANCELLED)
        return Outcome(step=step, status=Status.QUEUED, reason=why_queued(evaluations))
    newest = max(allocations, key=lambda one: int(one["CreateIndex"]))
    task: Json = (newest.get("TaskStates") or {}).get(TASK) or {}
    status = newest["ClientStatus"]
    if status == "lost":
        return Outcome(step=step, status=Status.LOST, reason=newest.get("ClientDescription") or "its node was lost")
    if status == "pending" or not task:
        return Outcome(step=step, status=Status.QUEUED, reason=why_pending(task))
    if status in ("running", "unknown"):
        reason = "its node does not answer" if status == "unknown" else ""
        return Outcome(step=step, status=Status.RUNNING, reason=reason)
    return _ended(step, bool(job.get("Stop")), task)


def why_queued(evaluations: Sequence[Json]) -> str:
    """Why a job has no allocation yet: what the cluster has too little of; empty when it was not considered yet."""
    for one in sorted(evaluations, key=lambda one: int(one.get("ModifyIndex", 0)), reverse=True):
        for failed in (one.get("FailedTGAllocs") or {}).values():
            lacks = [f"{what} on {count} nodes" for what, count in (failed.get("DimensionExhausted") or {}).items()]
            filters = [f"{what} on {count} nodes" for what, count in (failed.get("ConstraintFiltered") or {}).items()]
            if filters and not lacks:
                return f"no node fits: {', '.join(sorted(filters))}"
            return f"the cluster is full: {', '.join(sorted(lacks)) or 'no node is ready'}"
    return ""


def why_pending(task: Json) -> str:
    """What a placed task waits for: a template's key or secret, an image; empty when it is just starting."""
    for event in reversed(task.get("Events") or ()):
        text = event.get("DisplayMessage") or ""
        if event.get("Type") == "Template":
            return f"waiting on a template: {text.removeprefix('Template: ')}"
        if event.get("Type") == "Driver":
            return text
    return ""


def _ended(step: str, stopped: bool, task: Json) -> Outcome:
    events = list(task.get("Events") or ())
    last = next((event for event in reversed(events) if event.get("Type") == "Terminated"), None)
    details = (last or {}).get("Details") or {}
    code, signal = _number(details.get("exit_code")), _number(details.get("signal"))
    wall_s = _wall_s(events)
    if code == 0 and not signal and not task.get("Failed"):
        # Nomad records a stopped task's own exit code; one that ended well before the stop did succeed
        if stopped and any(event.get("Type") == "Killing" for event in events):
            return Outcome(step=step, status=Status.CANCELLED, wall_s=wall_s)
        return Outcome(step=step, status=Status.SUCCEEDED, exit_code=0, wall_s=wall_s)
    if details.get("oom_killed") == "true":
        return Outcome(
            step=step, status=Status.OUT_OF_MEMORY, reason="it was killed for want of memory", signal=signal or None,
            wall_s=wall_s,
        )  # fmt: skip
    if stopped:
        return Outcome(step=step, status=Status.CANCELLED, signal=signal or None, wall_s=wall_s)
    if last is None:
        return Outcome(step=step, status=Status.FAILED, reason=_why_not_started(events), wall_s=wall_s)
    reason = f"it was killed by signal {signal}" if signal else f"it ended with exit code {code}"
    kept = None if signal else code
    return Outcome(
        step=step, status=Status.FAILED, reason=reason, exit_code=kept, signal=signal or None, wall_s=wall_s
    )


def _why_not_started(events: Sequence[Json]) -> str:
    for event in reversed(events):
        if event.get("Type") in ("Driver Failure", "Setup Failure", "Failed Artifact Download", "Killing"):
            return f"it could not be started: {event.get('DisplayMessage') or event.get('Type')}"
    return "it could not be started"


def _number(text: object) -> int:
    """A number of an event's details, which are strings; 0 when it is none."""
    try:
        return int(str(text))
    except ValueError:
        return 0


def _wall_s(events: Sequence[Json]) -> float:
    times = {event.get("Type"): int(event.get("Time", 0)) for event in events}
    begun, ended = times.get("Started", 0), times.get("Terminated", 0)
    return (ended - begun) / _NS if 0 < begun < ended else 0.0


def combine(seen: Outcome, said: Outcome | None, asked: str, stopped: bool) -> Outcome:
    """The outcome of an ended step. seen: by Nomad's records; said: the step's last word, None when it left none.

    asked: why somebody asked for the end here, empty when nobody did. stopped: the job was stopped.
    """
    if said is not None and (said.status is not Status.CANCELLED or stopped):
        found = structs.replace(said, step=seen.step)
    elif said is not None:
        found = structs.replace(said, step=seen.step, status=Status.LOST, reason="its node ended it")
    else:
        found = seen
    if found.status is Status.CANCELLED:
        return structs.replace(found, reason=asked or "somebody stopped its job")
    return found
