"""What the demo does to the champion's worker while it answers, and what is seen of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rdv.cli.demo.verdict import Fault

if TYPE_CHECKING:
    from rdv.cli.demo.traffic import Exchange, Traffic
    from rdv.config import Project
    from rdv.serving.processes.records import RoleRecord

HEAL_S = 60.0
LOOK_S = 0.02
BEST = "tier 1"


def worker(project: Project, model: str) -> RoleRecord | None:
    """The record of a model's worker that lives and has a version to serve; None while there is none."""
    from rdv.serving.processes.records import read_records

    for record in read_records(project.run_folder):
        if (record.role, record.name, record.state) == ("worker", model, "ready"):
            return record
    return None


async def until(holds: Callable[[], bool], limit_s: float) -> bool:
    """Wait until something holds, at most limit_s; whether it does."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(LOOK_S)
    return True


async def strike(project: Project, model: str, number: int, traffic: Traffic) -> Fault:
    """Send a signal to a model's worker; return what came of it once the model answers again, or HEAL_S later.

    number: SIGKILL, which ends the process, or SIGSTOP, after which it lives and does nothing.
    """
    hit = worker(project, model)
    name = signal.Signals(number).name
    if hit is None:
        return Fault(f"{name} found no worker of {model}", 0, 0, None)
    began = time.monotonic()
    os.kill(hit.pid, number)

    def healed() -> bool:
        there = worker(project, model)
        return there is not None and there.pid != hit.pid and answered_by(model, traffic, there.started)

    well = await until(healed, HEAL_S)
    took_s = time.monotonic() - began
    below = sum(one.answer.get("source") != BEST for one in since(traffic, began))
    what = f"{name} of {model}'s worker: answers by a lower tier or the default"
    return Fault(what, below, int(well), took_s if well else None)


def since(traffic: Traffic, began: float) -> list[Exchange]:
    """The requests that were asked after a moment and have been answered."""
    return [one for one in traffic.exchanges if one.due_s >= began and one.status]


def answered_by(model: str, traffic: Traffic, started: float) -> bool:
    """Whether a model has answered a request that was asked after a moment (epoch seconds)."""
    began = time.monotonic() - (time.time() - started)
    return any(one.answer.get("model") == model for one in since(traffic, began))
