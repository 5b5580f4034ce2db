"""What Nomad's records say about serving jobs. Pure: takes decoded JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rdv.backends.ports_services import ServiceInstance

Json = Mapping[str, Any]
_STATES = {"pending": "pending", "running": "running", "failed": "failed", "lost": "failed", "unknown": "pending"}
_ROLLING = ("running", "pending", "blocked", "unblocking", "initializing", "paused")
# events of a task that say why it does not run, or not well
_TELLING = (
    "Terminated", "Driver Failure", "Setup Failure", "Failed Artifact Download", "Failed Validation", "Not Restarting",
    "Restart Signaled", "Template", "Alloc Unhealthy",
)  # fmt: skip


def instances_of(allocations: Iterable[Json]) -> tuple[ServiceInstance, ...]:
    """The instances that are to run, oldest first."""
    wanted = [one for one in allocations if one.get("DesiredStatus") == "run"]
    return tuple(_instance(one) for one in sorted(wanted, key=lambda one: int(one["CreateIndex"])))


def is_rolling(deployment: Json | None) -> bool:
    """Whether a deployment is on its way."""
    return deployment is not None and deployment.get("Status") in _ROLLING


def tries(deployment: Json) -> bool:
    """Whether a deployment has canaries that wait for somebody to decide."""
    groups = (deployment.get("TaskGroups") or {}).values()
    return any(one.get("DesiredCanaries") and not one.get("Promoted") for one in groups)


def why(allocation: Json) -> Iterator[str]:
    """What an allocation's events say about its not being well, oldest first."""
    if allocation.get("ClientStatus") == "failed" and allocation.get("ClientDescription"):
        yield str(allocation["ClientDescription"])
    for task, state in (allocation.get("TaskStates") or {}).items():
        for event in state.get("Events") or ():
            if event.get("Type") in _TELLING or event.get("FailsTask"):
                yield f"{task}: {event['Type']}: {event.get('DisplayMessage') or ''}".rstrip(": ")


def placement(evaluation: Json) -> Iterator[str]:
    """Why an evaluation, or a plan, could not place what it was to."""
    for group, metric in (evaluation.get("FailedTGAllocs") or {}).items():
        reasons = [*(metric.get("ConstraintFiltered") or {}), *(metric.get("DimensionExhausted") or {})]
        yield f"no node has room for {group}: {', '.join(reasons) or 'none is there'}"


def _instance(allocation: Json) -> ServiceInstance:
    status = allocation.get("DeploymentStatus") or {}
    reasons = list(why(allocation)) if allocation.get("ClientStatus") != "running" else []
    return ServiceInstance(
        id=str(allocation["ID"]),
        state=_STATES.get(str(allocation.get("ClientStatus")), "ended"),
        healthy=status.get("Healthy"),
        canary=bool(status.get("Canary")),
        restarts=sum(int(one.get("Restarts") or 0) for one in (allocation.get("TaskStates") or {}).values()),
        reason=reasons[-1] if reasons else "",
    )
