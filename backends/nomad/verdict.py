"""What Nomad's own records say about a step. Pure: takes decoded JSON, gives an outcome.

A dispatched job says little of its end: a cancelled one reads as complete, a dead one may have failed. What counts are
the events of the newest allocation's task and, while there is none, the evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from rdv.backends.nomad.queue import why_never, why_queued
from rdv.backends.ports import Outcome, Status

Json = Mapping[str, Any]
TASK = "step"
_NS = 1e9
_NOT_STARTED = ("Driver Failure", "Setup Failure", "Failed Artifact Download", "Failed Validation", "Killing")


def judge(
    step: str,
    job: Json,
    allocations: Sequence[Json],
    evaluations: Sequence[Json] = (),
    nodes: Sequence[Json] | None = None,
    now_s: float = 0.0,
    template_s: float = float("inf"),
) -> Outcome:
    """How a dispatched job stands, or how it ended; a cancelled one has no reason: who asked for it knows that.

    nodes: all of the cluster's, None when they are not known. template_s: how long it may wait for a template.
    """
    if not allocations:
        if never := why_never(job, evaluations, nodes):
            return Outcome(step=step, status=Status.FAILED, reason=never)
        if job.get("Stop"):
            return Outcome(step=step, status=Status.CANCELLED)
        return Outcome(step=step, status=Status.QUEUED, reason=why_queued(evaluations))
    newest = newest_of(allocations)
    task: Json = (newest.get("TaskStates") or {}).get(TASK) or {}
    status = newest["ClientStatus"]
    if status == "lost":
        return Outcome(step=step, status=Status.LOST, reason=newest.get("ClientDescription") or "its node was lost")
    if status == "pending" or (not task and status not in ("complete", "failed")):
        reason, since_s = _pending(task)
        if since_s and now_s - since_s > template_s:
            return Outcome(step=step, status=Status.FAILED, reason=f"after {template_s:g} s it was still {reason}")
        return Outcome(step=step, status=Status.QUEUED, reason=reason)
    if status in ("running", "unknown"):
        reason = "its node does not answer" if status == "unknown" else ""
        return Outcome(step=step, status=Status.RUNNING, reason=reason)
    return _ended(step, job, task)


def newest_of(allocations: Sequence[Json]) -> Json:
    """The allocation that counts: after a node was lost or drained the earlier ones say nothing any more."""
    return max(allocations, key=lambda one: int(one["CreateIndex"]))


def image_of(job: Json) -> str:
    """The image that a job's first task runs; empty for a driver without images."""
    for group in job.get("TaskGroups") or ():
        for task in group.get("Tasks") or ():
            return str((task.get("Config") or {}).get("image") or "")
    return ""


def _pending(task: Json) -> tuple[str, float]:
    """What a placed task waits for, empty when it is just starting; and since when it has waited for a template, 0: it

    waits for none.
    """
    events = list(task.get("Events") or ())
    for event in reversed(events):
        text = event.get("DisplayMessage") or ""
        if event.get("Type") == "Template":
            began = min(int(one.get("Time", 0)) for one in events if one.get("Type") == "Template")
            return f"waiting on a template: {text.removeprefix('Template: ')}", began / _NS
        if event.get("Type") == "Driver":
            return text, 0.0
    return "", 0.0


def _ended(step: str, job: Json, task: Json) -> Outcome:
    events, stopped = list(task.get("Events") or ()), bool(job.get("Stop"))
    last = next((event for event in reversed(events) if event.get("Type") == "Terminated"), None)
    wall_s = _wall_s(events)
    if last is None:
        if stopped and not task.get("Failed"):
            return Outcome(step=step, status=Status.CANCELLED, wall_s=wall_s)
        reason = _why_not_started(events, image_of(job))
        return Outcome(step=step, status=Status.FAILED, reason=reason, wall_s=wall_s)
    details = last.get("Details") or {}
    code, signal = _number(details.get("exit_code")), _number(details.get("signal")) or None
    if code == 0 and not signal and not task.get("Failed"):
        # Nomad records a stopped task's own exit code; one that ended well before the stop did succeed
        if stopped and any(event.get("Type") == "Killing" for event in events):
            return Outcome(step=step, status=Status.CANCELLED, wall_s=wall_s)
        return Outcome(step=step, status=Status.SUCCEEDED, exit_code=0, wall_s=wall_s)
    if details.get("oom_killed") == "true":
        reason = f"it needed more than {_memory_mb(job)} MB of memory"
        return Outcome(step=step, status=Status.OUT_OF_MEMORY, reason=reason, signal=signal, wall_s=wall_s)
    if stopped:
        return Outcome(step=step, status=Status.CANCELLED, signal=signal, wall_s=wall_s)
    reason = f"it was killed by signal {signal}" if signal else f"it ended with exit code {code}"
    kept = None if signal else code
    return Outcome(step=step, status=Status.FAILED, reason=reason, exit_code=kept, signal=signal, wall_s=wall_s)


def _why_not_started(events: Sequence[Json], image: str) -> str:
    for event in reversed(events):
        if event.get("Type") not in _NOT_STARTED:
            continue
        text = event.get("DisplayMessage") or str(event.get("Type"))
        if image and event["Type"] == "Driver Failure" and ("pull" in text or "image" in text.lower()):
            return f"its node has no image {image} and cannot get it: {text}; `rdv image build` makes it"
        return f"it could not be started: {text}"
    return "it could not be started"


def _memory_mb(job: Json) -> int:
    for group in job.get("TaskGroups") or ():
        for task in group.get("Tasks") or ():
            return int((task.get("Resources") or {}).get("MemoryMB") or 0)
    return 0


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

    asked: why somebody asked for the end here, empty when nobody did. stopped: the job was stopped. The last word goes
    before the records, but for a want of memory that only they tell of: a driver that sees it hides the cgroup.
    """
    if seen.status is Status.OUT_OF_MEMORY and said is not None and said.status is Status.FAILED:
        peak = max(said.peak_memory_bytes, seen.peak_memory_bytes)
        found = structs.replace(said, step=seen.step, status=seen.status, reason=seen.reason, peak_memory_bytes=peak)
    elif said is not None and (said.status is not Status.CANCELLED or stopped):
        found = structs.replace(said, step=seen.step)
    elif said is not None:
        found = structs.replace(said, step=seen.step, status=Status.LOST, reason="its node ended it")
    else:
        found = seen
    if found.status is Status.CANCELLED:
        return structs.replace(found, reason=asked or "somebody stopped its job")
    return found
