"""A gateway as a process: its sockets, its tasks, and the order in which it stops."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdv.addresses import address
from rdv.backends.select import registry
from rdv.config import Project, Serve
from rdv.errors import ConfigError
from rdv.ids import short_id
from rdv.serving.gateway.admin import Admin
from rdv.serving.gateway.app import Gateway
from rdv.serving.gateway.bus import GatewayBus, gateway_bus
from rdv.serving.gateway.ops import GatewayOps, address_of, ops_server, ops_socket
from rdv.serving.gateway.policies import PolicyBoard
from rdv.serving.http.edge import Bounds, HttpServer, listening_socket
from rdv.serving.rollouts import RolloutBoard
from rdv.sockets import bound_unix_socket, remove_stale_sockets
from rdv.supervise import TaskOwner

SPARE_FILES = 512
ADMIN_BODY_BYTES = 1 << 20


def admin_socket(project: Project, gateway: str) -> Path:
    """Where the admin socket of a gateway of this id is."""
    declared = project.config.serve.admin
    return project.folder / declared if declared else project.run_folder / f"admin-{gateway}.sock"


async def run_gateway(
    project: Project,
    stop: asyncio.Event,
    ready: Callable[[dict[str, Any]], None],
    gateway: str = "",
    signals: bool = False,
) -> None:
    """Serve a project's goals until `stop` is set (clean) or the caller is cancelled (hard).

    ready: told once everything listens, with `url`, `host`, `port`, `admin`, `bus`, `gateway`, and `ops` where there
    is such a listener. gateway: this instance's id, path-safe (default: a random one). signals: SIGTERM or SIGINT stop
    too, the second one hard.
    """
    gateway = gateway or short_id()
    serve = project.config.serve
    owner = TaskOwner("gateway", drain_s=serve.drain_s, signals=signals)
    async with AsyncExitStack() as sockets:
        process = await _open(project, gateway, sockets)
        _keep(owner, process, serve.drain_s)
        owner.task("stop when asked", lambda: _stop_when(stop, owner))
        async with owner:
            _settle_memory()
            ready(process.facts)
            await owner.stopped()


@dataclass(slots=True)
class _Process:
    gateway: Gateway
    bus: GatewayBus
    board: PolicyBoard
    rollouts: RolloutBoard
    data: HttpServer
    admin: HttpServer
    ops: HttpServer | None
    facts: dict[str, Any]


async def _open(project: Project, name: str, sockets: AsyncExitStack) -> _Process:
    """Everything bound and listening, nothing served yet."""
    serve, own = project.config.serve, admin_socket(project, name)
    for folder in (project.run_folder / "bus", project.run_folder):
        remove_stale_sockets(folder)
    bus = gateway_bus(project, name)
    gateway = Gateway(project, name, bus.make)
    tcp = _tcp(serve)
    sockets.callback(tcp.close)
    host, port = tcp.getsockname()[:2]
    unix = bound_unix_socket(own)
    sockets.callback(own.unlink, missing_ok=True)
    sockets.callback(unix.close)
    told = ops_socket(serve)
    if told is not None:
        sockets.callback(told.close)
    listens = await bus.listen()
    facts = {
        "gateway": name,
        "url": f"http://{address(host, port)}",
        "host": host,
        "port": port,
        "admin": str(own),
        "bus": listens,
        **({"ops": address_of(told)} if told is not None else {}),
    }
    followed = registry(project)
    board, rollouts = PolicyBoard(gateway.desks, followed), RolloutBoard(gateway.desks, followed)
    data = HttpServer(gateway, tcp, _bounds(serve))
    for desk in gateway.desks.values():
        desk.coming = lambda: data.reading

    def drain() -> None:
        data.admission.draining = gateway.draining = True

    about = {**facts, "pid": os.getpid(), "started": time.time()}
    admin = HttpServer(Admin(gateway, board, about, drain), unix, Bounds(body_bytes=ADMIN_BODY_BYTES, connections=64))
    ops = ops_server(GatewayOps(gateway, board, about), told) if told is not None else None
    return _Process(gateway, bus, board, rollouts, data, admin, ops, facts)


def _keep(owner: TaskOwner, process: _Process, drain_s: float) -> None:
    """Register what runs, and how it stops: intake first, then drain, settle, tell the recorder, close."""
    gateway, data, admin = process.gateway, process.data, process.admin
    served = asyncio.Event()

    async def serve() -> None:
        try:
            await data.serve()
        finally:
            served.set()

    async def drained() -> None:
        await gateway.drained()
        await served.wait()

    def intake() -> None:
        data.admission.draining = gateway.draining = True
        data.stop(drain_s)

    async def close() -> None:
        process.board.stop()
        process.rollouts.stop()
        gateway.close()
        await process.bus.close()

    owner.task("http", serve)
    owner.task("admin", admin.serve)
    process.bus.keep(owner, process.facts)
    if process.ops is not None:
        owner.task("ops", process.ops.serve)
    process.board.start()
    process.rollouts.start()
    owner.on_stop("http", intake=intake, drain=drained)
    owner.on_stop("settle, tell the recorder and leave the bus", flush=close)


async def _stop_when(stop: asyncio.Event, owner: TaskOwner) -> None:
    await stop.wait()
    owner.stop("asked to")
    await asyncio.Event().wait()  # cancelled by the owner, as the last of its tasks


def _tcp(serve: Serve) -> socket.socket:
    try:
        return listening_socket(serve.host, serve.port)
    except OSError as error:
        problem = f"cannot listen on {serve.host}:{serve.port}: {error.strerror or error}"
        raise ConfigError(problem, "choose another with `--set serve.port=...`, 0 for any free one") from error


def _bounds(serve: Serve) -> Bounds:
    """The declared bounds, with connections well below the limit of open files, which is raised as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files = hard if hard != resource.RLIM_INFINITY else 1 << 20
    return Bounds(
        body_bytes=serve.body_bytes,
        body_s=serve.body_ms / 1e3,
        in_flight=serve.max_in_flight,
        per_client=serve.per_client,
        connections=max(64, min(4096, files - SPARE_FILES)),
    )


def _settle_memory() -> None:
    """Keep what lives for ever out of the collector's way: a full collection would stop every request for it."""
    gc.collect()
    gc.freeze()
