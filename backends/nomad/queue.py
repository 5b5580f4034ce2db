"""Why a job has no allocation yet, and whether it can ever get one. Pure: takes decoded JSON, gives words.

A cluster that is full is no failure; a step that asks for more than any node has, or for a driver or a property that
no node has, would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
_CLASS = "computed class ineligible"
"""What Nomad says of a node whose like it has refused before; why it did is in an earlier evaluation."""


def why_queued(evaluations: Sequence[Json]) -> str:
    """Why a job has no allocation yet: what the cluster has too little of; empty when it was not considered yet."""
    for failed in _failures(evaluations):
        lacks = _counted(failed.get("DimensionExhausted"))
        filters = _filters(failed)
        if filters and not lacks:
            return f"no node fits: {', '.join(filters)}"
        return f"the cluster is full: {', '.join(lacks) or 'no node is ready'}"
    return ""


def why_never(job: Json, evaluations: Sequence[Json], nodes: Sequence[Json] | None) -> str:
    """Why a job can never be placed on this cluster; empty when it can, or when that is not known.

    nodes: all of the cluster's with their resources, None when they are not known.
    """
    for failed in _failures(evaluations):
        evaluated, filtered = int(failed.get("NodesEvaluated") or 0), int(failed.get("NodesFiltered") or 0)
        if 0 < evaluated <= filtered and not failed.get("NodesExhausted"):
            names = [text for one in _failures(evaluations) for text in _filters(one)]
            best = next((text for text in names if _CLASS not in text), names[0] if names else "no node fits")
            return f"no node can run it: {best}"
        return _too_large(job, failed.get("DimensionExhausted") or {}, nodes or ())
    return ""


def _too_large(job: Json, exhausted: Mapping[str, Any], nodes: Sequence[Json]) -> str:
    wanted, most = _wanted(job), _most(nodes)
    for name, (unit, of) in _DIMENSIONS.items():
        if any(one.split(":")[0].startswith(name) for one in exhausted) and 0 < most.get(name, 0) < wanted.get(name, 0):
            return f"it needs {wanted[name]:,} {unit} of {of}, the largest node has {most[name]:,}"
    return ""


_DIMENSIONS = {"memory": ("MB", "memory"), "cpu": ("MHz", "processor"), "disk": ("MB", "disk")}


def _wanted(job: Json) -> dict[str, int]:
    """What one allocation of a job reserves."""
    for group in job.get("TaskGroups") or ():
        tasks = [task.get("Resources") or {} for task in group.get("Tasks") or ()]
        return {
            "memory": sum(int(one.get("MemoryMB") or 0) for one in tasks),
            "cpu": sum(int(one.get("CPU") or 0) for one in tasks),
            "disk": int((group.get("EphemeralDisk") or {}).get("SizeMB") or 0),
        }
    return {}


def _most(nodes: Sequence[Json]) -> dict[str, int]:
    """The most that any node has of each thing, what it keeps for itself taken off."""
    places = {"memory": ("Memory", "MemoryMB"), "cpu": ("Cpu", "CpuShares"), "disk": ("Disk", "DiskMB")}

    def has(node: Json, kind: str, field: str) -> int:
        whole, kept = (((node.get(of) or {}).get(kind) or {}) for of in ("NodeResources", "ReservedResources"))
        return int(whole.get(field) or 0) - int(kept.get(field) or 0)

    return {name: max((has(node, *place) for node in nodes), default=0) for name, place in places.items()}


def _failures(evaluations: Sequence[Json]) -> Iterator[Json]:
    """What each evaluation says of the group that it could not place, newest first."""
    for one in sorted(evaluations, key=lambda one: int(one.get("ModifyIndex", 0)), reverse=True):
        yield from (one.get("FailedTGAllocs") or {}).values()


def _filters(failed: Json) -> list[str]:
    return _counted(failed.get("ConstraintFiltered"))


def _counted(found: Mapping[str, Any] | None) -> list[str]:
    return sorted(f"{what} on {count} nodes" for what, count in (found or {}).items())
