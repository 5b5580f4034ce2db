"""A model's workers started again one after the other, so that each takes up what the pointer says by then.

That is how a release reaches workers with `reload = "restart"`: Nomad itself would restart all of them at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rdv.backends import select
from rdv.backends.ports_services import Instance, Services
from rdv.config import Project
from rdv.errors import NobodyServes, NotFound, RdvError, TimedOut
from rdv.serving.ops_client import Ops, record_of
from rdv.serving.processes.specs import GATEWAY, WORKER

_LOOK_S = 0.05


def rolls(project: Project, model: str) -> bool:
    """Whether a release of a model is taken up by restarts."""
    settings = project.config.models.get(model)
    return settings is not None and settings.reload == "restart" and select.is_remote(project, "services")


def roll(project: Project, model: str, version: str, timeout_s: float, say: Callable[[str], object]) -> None:
    """Start a model's workers again, one after the other, each when the one before it serves the version.

    NobodyServes when none runs; TimedOut when one does not serve it within what is left of the time.
    """
    services, ops, until = select.services(project), Ops(project), time.monotonic() + timeout_s
    job = next((one for one in services.look() if (one.role, one.model) == (WORKER, model)), None)
    if job is None or not job.instances:
        raise NobodyServes(f"no worker of {model} runs", f"`rdv apply --env {project.env}` starts them")
    for at, instance in enumerate(job.instances, 1):
        known = _place(ops, instance.id)
        if known is not None and _serves(known, version):
            continue
        _restarted(services, job.job, instance.id, until)
        _wait(ops, instance.id, known, version, until)
        say(f"worker {at} of {len(job.instances)} of {model} serves {version}")


def _restarted(services: Services, job: str, instance: str, until: float) -> None:
    try:
        services.restart(job, instance, max(1.0, until - time.monotonic()))
    except NotFound:  # it is gone: whatever comes in its place begins with what the pointer says
        return


def _wait(ops: Ops, instance: str, known: Instance | None, version: str, until: float) -> None:
    """Return when a worker serves a version to every gateway; a restart leaves it its address."""
    while True:
        place = known or _place(ops, instance)
        if place is not None and _serves(place, version, len(ops.instances()[GATEWAY])):
            return
        if time.monotonic() >= until:
            raise TimedOut(f"worker {instance[:8]} does not serve {version} in time", "see `rdv status`")
        time.sleep(_LOOK_S)


def _place(ops: Ops, instance: str) -> Instance | None:
    return next((one for one in ops.instances()[WORKER] if instance.startswith(one.id)), None)


def _serves(place: Instance, version: str, gateways: int = 0) -> bool:
    try:
        details = record_of(place).details
    except RdvError:
        return False
    lines = details.get("gateways")
    return details.get("version") == version and isinstance(lines, list) and len(lines) >= gateways
