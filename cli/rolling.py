"""Rollouts from the command line: begun, promoted, ended, each step going on where a killed one stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rdv.cli.model_views import find_version
from rdv.cli.options import require_model
from rdv.cli.output import note
from rdv.cli.releasing import followed, undo, verified, who
from rdv.errors import Refused, RolloutFailed, TimedOut, Unreachable

if TYPE_CHECKING:
    from rdv.backends.ports import Registry
    from rdv.config import Project
    from rdv.manifest import Manifest
    from rdv.records import Rollout, Version
    from rdv.releases.actuation import Actuator

Record = dict[str, Any]


def begin(
    project: Project, model: str, text: str | None, canaries: int, share: float | None, timeout_s: float
) -> Record:
    """Try a version out beside the one that is served, or go on with that; what came of it.

    text: as `model_views.resolve` takes; None: that of the rollout that is on, or else the newest. A version that a
    canary cannot serve ends the rollout, and is Refused.
    """
    from rdv.backends import select
    from rdv.clock import SystemClock
    from rdv.releases import rollout

    require_model(project, model)
    registry, clock, began = select.registry(project), SystemClock(), time.monotonic()
    now = rollout.current(registry, model)
    text = text or (now.version if now is not None and now.on else "newest")
    version = verified(project, model, find_version(project, model, text))
    if now is not None and not now.on:
        finish(project, registry, now)
    row = rollout.start(registry, model, version.version, who(), clock, canaries, share)
    runs = actuator(project)
    if runs is not None:
        if runs.is_resized(row):
            note(f"its canaries are replaced by {row.canaries}; until they answer, {row.instead_of} answers for them")
        mark = runs.begin(row, to_bring(project, model, version), timeout_s)
        row = rollout.marked(registry, row, mark, who(), clock)
    if not timeout_s:
        note("nobody was waited for: the same command with --timeout has the canaries answer once they can")
        return record(row)
    try:
        in_force(project, row, timeout_s, runs)
    except Refused as error:
        ended = rollout.roll_back(registry, model, who(), clock, error.what)
        if ended is not None:
            finish(project, registry, ended)
        raise Refused(f"{error.what}; the rollout is over", error.hint or f"see `rdv rollouts {model}`") from None
    row = rollout.begin(registry, row, who(), clock)
    gateways = in_force(project, row, max(0.0, timeout_s - (time.monotonic() - began)), runs)
    return record(row, gateways, time.monotonic() - began)


def promote(project: Project, model: str, timeout_s: float) -> Record:
    """Make the version that is tried out the one that is served; what came of it."""
    from rdv.backends import select
    from rdv.clock import SystemClock
    from rdv.releases import pointer, rollout

    require_model(project, model)
    registry, clock = select.registry(project), SystemClock()
    row = rollout.decide(registry, model, who(), clock)
    release = pointer.released(registry, model, row.serial)
    assert release is not None
    found = followed(project, model, release, timeout_s)
    finish(project, registry, rollout.promoted(registry, row, who(), clock), timeout_s)
    return found


def rollback(project: Project, model: str, timeout_s: float) -> Record:
    """End the rollout that is on, or else release the version that was served before; what came of it."""
    require_model(project, model)
    unfinished = is_unfinished(project, model)
    found = end(project, model, timeout_s)
    if found is None:
        found = undo(project, model, timeout_s)
        if unfinished:
            settle_newest(project, model, timeout_s)
    return found


def end(project: Project, model: str, timeout_s: float) -> Record | None:
    """End the rollout that is on, and return what came of it; None when there is none to end."""
    from rdv.backends import select
    from rdv.clock import SystemClock
    from rdv.releases import rollout

    registry, began = select.registry(project), time.monotonic()
    row = rollout.roll_back(registry, model, who(), SystemClock())
    if row is None:
        return None
    gateways = finish(project, registry, row, timeout_s)
    return record(row, gateways, time.monotonic() - began)


def finish(project: Project, registry: Registry, row: Rollout, timeout_s: float = 10.0) -> int:
    """Do what an ended rollout asks for: gateways assign nobody, its canaries end or stay. How many gateways do so.

    What runs the canaries is told even when gateways are too slow; then TimedOut, and the same command goes on.
    RolloutFailed when promoted canaries have failed: nothing is left to be done, so it is over all the same.
    """
    from rdv.releases import rollout

    if rollout.is_closed(registry, row):
        return 0
    gateways, late = 0, None
    if timeout_s:
        try:
            gateways = in_force(project, row, timeout_s)
        except Unreachable as nobody:
            note(f"{row.state.value}; {nobody}")
        except TimedOut as error:
            late = error
    try:
        settle(project, row, timeout_s)
    except RolloutFailed:
        rollout.close(registry, row)
        raise
    if late is not None:
        raise late
    rollout.close(registry, row)
    return gateways


def settle(project: Project, row: Rollout, timeout_s: float) -> None:
    """Have a cluster make an ended rollout's canaries its workers, or end them; on one machine they follow the row."""
    runs = actuator(project)
    if runs is not None:
        runs.end(row, timeout_s)


def is_unfinished(project: Project, model: str) -> bool:
    """Whether the model's newest rollout is on, or everything that its end asks for is not done."""
    from rdv.backends import select
    from rdv.releases import rollout

    registry = select.registry(project)
    row = rollout.current(registry, model)
    return row is not None and not rollout.is_closed(registry, row)


def settle_newest(project: Project, model: str, timeout_s: float) -> None:
    """As `settle`, for the model's newest rollout."""
    from rdv.backends import select
    from rdv.releases import rollout

    row = rollout.current(select.registry(project), model)
    if row is not None and not row.on:
        settle(project, row, timeout_s)


def actuator(project: Project) -> Actuator | None:
    """What runs canaries in a project's environment; None where the supervisor of `rdv serve` does."""
    from rdv.backends import select
    from rdv.releases.actuation import Actuator

    if not select.is_remote(project, "services"):
        return None
    return Actuator(select.canaries(project))


def to_bring(project: Project, model: str, version: Version) -> Manifest | None:
    """The manifest of a version whose file the cluster is to bring to canaries; None where workers fetch it."""
    from rdv.backends import select

    if project.config.models[model].fetch == "worker":
        return None
    return select.artifacts(project).manifest(version.artifact)


def in_force(project: Project, row: Rollout, timeout_s: float, runs: Actuator | None = None) -> int:
    """Return how many gateways do what a row says, once all of them do."""
    from rdv.serving.rollout_status import wait_until_tried

    return wait_until_tried(project, row, timeout_s, lambda: "" if runs is None else runs.check(row))


def record(row: Rollout, gateways: int = 0, waited_s: float | None = None) -> Record:
    """A rollout as a record."""
    return {
        "model": row.model, "rollout": row.number, "version": row.version, "instead_of": row.instead_of,
        "state": row.state.value, "share": row.share, "canaries": row.canaries, "serial": row.serial, "at": row.at,
        "by": row.by, "changed": row.changed, "reason": row.reason, "gateways": gateways,
        "waited_s": None if waited_s is None else round(waited_s, 3),
    }  # fmt: skip


def records(project: Project, model: str = "") -> list[Record]:
    """The rollouts of a model, or of all of rdv.toml, the newest first."""
    from rdv.backends import select
    from rdv.releases import rollout

    if model:
        require_model(project, model)
    registry = select.registry(project)
    models = [model] if model else project.config.models
    rows = [row for one in models for row in rollout.history(registry, one)]
    return [
        {**record(row), "ended": not row.on and rollout.is_closed(registry, row), "changed_by": row.changed_by}
        for row in sorted(rows, key=lambda row: (row.at, row.model), reverse=True)
    ]
