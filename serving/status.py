"""What a project serves now, asked of its gateways and read from its processes' records."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from rdv.backends import select
from rdv.backends.ports import Registry
from rdv.backends.ports_services import Services
from rdv.config import Project
from rdv.errors import LostRace, NobodyServes, NotFound, RdvError, Refused, TimedOut, Unreachable
from rdv.folder_watch import FolderWatch
from rdv.records import Pointer, decode, pointer_key
from rdv.serving.ops_client import Ops
from rdv.serving.processes.counts import read_counts
from rdv.serving.processes.records import RoleRecord, read_records, records_folder
from rdv.serving.processes.specs import DECOY, GATEWAY, WORKER
from rdv.serving.processes.supervisor import SUPERVISOR
from rdv.serving.worker.worker import WorkerDetails
from rdv.sockets import connected_unix_socket

ANSWER_S = 2.0
LOOK_S = 0.02


class ServingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One moment. gateways: each one's own view (see `rdv.serving.gateway.status_view`), those that answered.

    silent: why the others did not. workers, decoys: their records. supervisor: that of `rdv serve`, None without one.
    wanted: how many workers of each model there are to be, as far as somebody sees to that.
    """

    project: str
    gateways: tuple[dict[str, Any], ...] = ()
    silent: tuple[str, ...] = ()
    workers: tuple[RoleRecord, ...] = ()
    decoys: tuple[RoleRecord, ...] = ()
    supervisor: RoleRecord | None = None
    wanted: dict[str, int] = {}


class ServedBy(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves a version, and how long that took."""

    model: str
    version: str
    replicas: tuple[str, ...]
    gateways: int
    waited_s: float


def read_status(project: Project) -> ServingStatus:
    """What serves a project now; NobodyServes when no gateway answers."""
    status = look(project)
    if not status.gateways:
        why = f" ({'; '.join(status.silent)})" if status.silent else ""
        raise NobodyServes(f"no gateway of {project.folder} answers{why}", _starts(project, GATEWAY))
    return status


def wait_until_served(project: Project, model: str, version: str, timeout_s: float) -> ServedBy:
    """Return when every worker of a model serves a version and every gateway knows; they follow the model's pointer.

    Raises NobodyServes at once when no worker of the model runs and none is to come, Refused when one says that it
    cannot serve this release, LostRace when the pointer says another version, TimedOut.
    """
    if model not in project.config.models:
        known = ", ".join(sorted(project.config.models)) or "none"
        raise NotFound(f"there is no model {model!r} in rdv.toml", f"known: {known}")
    began, registry = time.monotonic(), select.registry(project)
    look_again = looker(project)
    with FolderWatch(records_folder(project.run_folder)) as watch:
        while True:
            status = look_again()
            missing = _missing(project, registry, status, model, version)
            waited_s = time.monotonic() - began
            if not missing:
                replicas = tuple(one.replica for one in _workers(status, model))
                return ServedBy(
                    model=model,
                    version=version,
                    replicas=replicas,
                    gateways=len(status.gateways),
                    waited_s=waited_s,
                )
            if waited_s >= timeout_s:
                raise TimedOut(
                    f"version {version} of {model} is not served everywhere after {timeout_s:g} s: {missing}",
                    "see `rdv status`",
                )
            watch.wait(min(LOOK_S, timeout_s - waited_s))


def _missing(project: Project, registry: Registry, status: ServingStatus, model: str, version: str) -> str:
    """What is still missing until a version is served everywhere; empty when nothing is."""
    workers = _workers(status, model)
    if not workers and not status.wanted.get(model):
        raise NobodyServes(f"no worker of {model} runs", f"{_starts(project, WORKER)}; the release stands")
    serial = _released(registry, model, version)
    replicas = 0
    for worker in workers:
        details = msgspec.convert(worker.details, WorkerDetails) if worker.details else WorkerDetails(topic="")
        refused = details.refused
        if refused is not None and refused.version == version and refused.serial == serial:
            raise Refused(f"replica {worker.replica} of {model} cannot serve {version}: {refused.reason}", "roll back")
        if details.version != version:
            return f"replica {worker.replica} serves {details.version or 'nothing'}"
        replicas += 1
    wanted = status.wanted.get(model, 1)
    if replicas < wanted:
        return f"{replicas} of {wanted} replicas run"
    for view in status.gateways:
        versions = [one["version"] for one in _model_view(view, project, model).get("replicas", [])]
        if len(versions) < replicas or set(versions) != {version}:
            return f"gateway {view['gateway']} sees {', '.join(versions) or 'no replica'}"
    return ""


def _released(registry: Registry, model: str, version: str) -> int:
    """The serial of the release that says this version, 0 when the registry cannot tell; LostRace for another."""
    try:
        entry = registry.get(pointer_key(model))
        pointer = decode(Pointer, entry.value, pointer_key(model)) if entry is not None else None
    except RdvError:
        return 0
    if pointer is not None and pointer.version != version:
        raise LostRace(f"{model} is to serve {pointer.version} by now, not {version}", "see `rdv models`")
    return pointer.serial if pointer is not None else 0


def _workers(status: ServingStatus, model: str) -> list[RoleRecord]:
    return [one for one in status.workers if one.name == model and not one.details.get("canary")]


def _model_view(view: dict[str, Any], project: Project, model: str) -> dict[str, Any]:
    goal = view["goals"].get(project.config.models[model].goal, {})
    found: dict[str, Any] = goal.get("models", {}).get(model, {})
    return found


def looker(project: Project) -> Callable[[], ServingStatus]:
    """A function that looks what serves a project now, on this machine or, by the catalog, on a cluster."""
    if not select.is_remote(project, "services"):
        return lambda: _look(project)
    ops, services = Ops(project), select.services(project)
    wanted, unasked = _wanted(project, services)

    def everywhere() -> ServingStatus:
        """What the cluster's jobs tell, and what `rdv serve` does here for the same environment."""
        here, told = _look(project), ops.look()
        known = {view["gateway"] for view in here.gateways}
        models = {*wanted, *here.wanted}
        return msgspec.structs.replace(
            here,
            gateways=(*here.gateways, *(view for view in told.gateways if view["gateway"] not in known)),
            silent=(*here.silent, *(why for name, why in told.silent.items() if name not in known), *unasked),
            workers=(*here.workers, *told.workers),
            decoys=(*here.decoys, *told.decoys),
            wanted={model: wanted.get(model, 0) + here.wanted.get(model, 0) for model in models},
        )

    return everywhere


def _wanted(project: Project, services: Services) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many workers of each model there are to be, and why whoever keeps them could not be asked, if so.

    A cluster's workers serve on without its servers: then rdv.toml says how many there are at least.
    """
    try:
        return {one.model: one.count for one in services.look() if one.role == WORKER}, ()
    except Unreachable as error:
        return {model: settings.replicas for model, settings in project.config.models.items()}, (error.what,)


def look(project: Project) -> ServingStatus:
    """What serves a project now, also when nothing does."""
    return looker(project)()


def _starts(project: Project, role: str) -> str:
    """What to type for a role that nobody finds."""
    if not select.is_remote(project, "services"):
        return "`rdv serve` starts it"
    with contextlib.suppress(Unreachable):
        there = [one for job in select.services(project).look() if job.role == role for one in job.instances]
        if any(one.state == "running" for one in there):
            anew = f"`rdv apply --env {project.env} --anew` replaces them"
            return f"some run and the catalog does not know them as healthy: after a Consul that lost its data, {anew}"
    return f"`rdv apply --env {project.env}` starts them"


def _look(project: Project) -> ServingStatus:
    records = read_records(project.run_folder)
    views, silent = [], []
    told = {Path(str(one.details["admin"])) for one in records if one.role == GATEWAY and "admin" in one.details}
    for admin in sorted(told | set(project.run_folder.glob("admin-*.sock"))):
        try:
            views.append(admin_get(admin, "/status"))
        except RdvError as error:
            silent.append(str(error))
    supervisors = [record for record in records if record.role == SUPERVISOR]
    return ServingStatus(
        project=str(project.folder),
        gateways=tuple(views),
        silent=tuple(silent),
        workers=tuple(record for record in records if record.role == WORKER),
        decoys=tuple(record for record in records if record.role == DECOY),
        supervisor=supervisors[0] if supervisors else None,
        wanted=_replicas(project) if supervisors else {},
    )


def _replicas(project: Project) -> dict[str, int]:
    counts = read_counts(project.state)
    return {
        model: counts.of(f"{WORKER} {model}", settings.replicas) for model, settings in project.config.models.items()
    }


def admin_get(admin: Path, path: str) -> dict[str, Any]:
    """What a gateway's admin socket answers to a GET; Unreachable when it does not, within 2 s."""
    connection = _AdminConnection(admin)
    try:
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            data = reply.read()
        if reply.status != 200:
            raise Unreachable(f"{admin.name} answered {reply.status} to {path}", "see the gateway's log")
        found: dict[str, Any] = msgspec.json.decode(data)
        return found
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise Unreachable(f"{admin.name} did not answer {path}: {error}", "see `rdv status`") from error


class _AdminConnection(http.client.HTTPConnection):
    def __init__(self, admin: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._admin = admin

    def connect(self) -> None:
        self.sock: socket.socket = connected_unix_socket(self._admin)
        self.sock.settimeout(ANSWER_S)
