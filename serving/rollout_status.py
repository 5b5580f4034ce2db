"""Waiting until gateways do what a rollout's row says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from rdv.config import Project
from rdv.errors import NobodyServes, NotFound, Refused, TimedOut
from rdv.folder_watch import FolderWatch
from rdv.records import Rollout
from rdv.serving.processes.records import records_folder
from rdv.serving.status import LOOK_S, ServingStatus, look
from rdv.serving.worker.worker import WorkerDetails


def wait_until_tried(
    project: Project, rollout: Rollout, timeout_s: float, check: Callable[[], str] = lambda: ""
) -> int:
    """How many gateways do what a rollout's row says, once all do: see its canaries, or assign nobody any more.

    check: called at every look; what it says is told beside what is missing, what it raises ends the waiting. Raises
    Refused when a canary cannot serve its version, NobodyServes at once, TimedOut.
    """
    if rollout.model not in project.config.models:
        raise NotFound(f"there is no model {rollout.model!r} in rdv.toml", "see `rdv models list`")
    began = time.monotonic()
    with FolderWatch(records_folder(project.run_folder)) as watch:
        while True:
            reason = check()
            status = look(project)
            missing = _missing(project, status, rollout)
            if not missing:
                return len(status.gateways)
            waited_s = time.monotonic() - began
            if waited_s >= timeout_s:
                why = "; ".join(one for one in (missing, reason) if one)
                raise TimedOut(f"the rollout of {rollout.model} is not in force: {why}", "see `rdv status`")
            watch.wait(min(LOOK_S, timeout_s - waited_s))


def _missing(project: Project, status: ServingStatus, rollout: Rollout) -> str:
    """What is still missing until all gateways do what a row says; empty when nothing is."""
    if not status.gateways:
        if status.supervisor is None and not status.wanted:
            raise NobodyServes(f"no gateway of {project.folder} answers", "`rdv serve` starts it")
        return "no gateway answers yet"
    _raise_refusal(status, rollout)
    goal = project.config.models[rollout.model].goal
    for view in status.gateways:
        known = view["goals"].get(goal, {}).get("rollouts", {}).get(rollout.model)
        why = "has not heard of it" if known is None else differs(known, rollout)
        if why:
            return f"gateway {view['gateway']} {why}"
    return ""


def differs(known: dict[str, Any], rollout: Rollout) -> str:
    """What a gateway does otherwise than a row says, in words; empty when nothing is. known: its own view; pure."""
    told: dict[str, object] = {"number": rollout.number, "state": rollout.state.value}
    if rollout.on:
        told |= {"share": rollout.share, "canaries": rollout.canaries}
    for name, value in told.items():
        if known[name] != value:
            return f"has {name} {known[name]}, not {value}"
    there = sum(one["version"] == rollout.version for one in known["replicas"])
    return f"sees {there} canaries, not {rollout.canaries}" if rollout.on and there != rollout.canaries else ""


def _raise_refusal(status: ServingStatus, rollout: Rollout) -> None:
    for worker in status.workers:
        details = msgspec.convert(worker.details, WorkerDetails) if worker.details else None
        if worker.name != rollout.model or details is None or details.refused is None or not rollout.on:
            continue
        refused = details.refused
        if (refused.version, refused.serial) == (rollout.version, rollout.serial):
            raise Refused(f"{worker.replica} of {worker.name} cannot serve {refused.version}: {refused.reason}")
