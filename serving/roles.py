"""The role processes: what `rdv serve gateway|worker|decoy` runs, alone or as a child of `rdv serve`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rdv.backends import select
from rdv.config import Project
from rdv.errors import Exit, NotFound, RdvError
from rdv.files import make_folders
from rdv.ids import short_id
from rdv.records import Pin
from rdv.serving.gateway.ops import RoleOps, ops_server, ops_socket
from rdv.serving.noticing import noticing
from rdv.serving.processes.heartbeat import start_beating
from rdv.serving.processes.project_file import read_project
from rdv.serving.processes.records import RoleRecord, born, remove_record, write_record
from rdv.serving.processes.specs import DECOY, GATEWAY, ROLES, WORKER, pin_of
from rdv.serving.recording.decoy import Decoy, open_journals
from rdv.serving.topics import topic_schemas
from rdv.serving.worker.brought import Brought
from rdv.serving.worker.loading import Artifacts, Loader
from rdv.serving.worker.pointer_file import PointerFile
from rdv.serving.worker.shelf import Shelf
from rdv.serving.worker.worker import Post, Worker, WorkerDetails
from rdv.supervise import TaskOwner
from rdv.telemetry import json_logs

# A thread that loads a model holds the interpreter at most this long against the one that scores (default: 5 ms).
_SWITCH_S = 0.0005


class Told:
    """A role's record, kept up to date."""

    def __init__(self, project: Project, role: str, name: str, replica: str) -> None:
        self._run = project.run_folder
        self.record = RoleRecord(
            role=role, name=name, replica=replica, pid=os.getpid(), born=born(), started=time.time(), state="starting"
        )
        write_record(self._run, self.record)

    def say(self, state: str, details: msgspec.Struct | dict[str, object]) -> None:
        """Have the record tell this from now on; the disk being full is fine."""
        told = details if isinstance(details, dict) else msgspec.to_builtins(details)
        self.record = msgspec.structs.replace(self.record, state=state, details=told)
        try:
            write_record(self._run, self.record)
        except OSError:
            return

    def end(self) -> None:
        """Take the record away."""
        remove_record(self._run, self.record.role, self.record.name, self.record.replica)


@dataclass(frozen=True, slots=True)
class Alone:
    """How a role runs that is nobody's child here. Its ops port is its own, whichever role it is.

    pointer: the file that says what a worker's pointer does; None: it watches the registry.
    fetched: the folder of files that were brought for it; None: there is none.
    """

    pointer: PointerFile | None = None
    fetched: Path | None = None


def run_role(
    project: Project,
    role: str,
    model: str = "",
    replica: str = "",
    beat_fd: int = -1,
    pin: Pin | None = None,
    alone: Alone | None = None,
) -> None:
    """Run one role in this process until it is told to stop (SIGTERM or SIGINT; a second one ends it hard).

    model: which one a worker serves. replica: its name among its like, default: a random one. beat_fd: where to beat
    for a supervisor. pin: a worker is a canary of this version. Raises what ended it otherwise.
    """
    replica = replica or short_id()
    bodies: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        GATEWAY: lambda: _gateway(project, replica, beat_fd),
        WORKER: lambda: _worker(project, model, replica, beat_fd, pin, alone),
        DECOY: lambda: _decoy(project, replica, beat_fd, alone),
    }
    if role not in bodies:
        raise NotFound(f"there is no role {role!r}", f"roles: {', '.join(ROLES)}")
    import uvloop

    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else its library writes lines of its own among ours
    make_folders(project.run_folder / "bus")
    loops = uvloop.new_event_loop
    with json_logs(f"{role} {model}".strip()), asyncio.Runner(loop_factory=loops) as runner:
        runner.run(bodies[role]())


def _seat(project: Project, replica: str) -> str:
    """A replica's name on the bus, where those of other hosts may be called the same."""
    return replica if select.bus(project).scheme == "frames" else f"{replica}-{short_id()}"


async def _worker(
    project: Project, model: str, replica: str, beat_fd: int, pin: Pin | None, alone: Alone | None
) -> None:
    settings = project.config.models.get(model)
    if settings is None:
        known = ", ".join(sorted(project.config.models)) or "none"
        raise NotFound(f"there is no model {model!r} in rdv.toml", f"known: {known}")
    sys.setswitchinterval(_SWITCH_S)
    told = Told(project, WORKER, model, replica)
    goal, topic = project.config.goals[settings.goal], settings.topic()
    schema = topic_schemas(project)[topic]
    registry, shelf = select.registry(project), Shelf(project.state / "serving" / model)
    store: Artifacts = select.artifacts(project)
    if alone is not None and alone.fetched is not None:
        store = Brought(alone.fetched, store)
    loader = Loader(model, goal, schema, registry, store, shelf)
    owner = TaskOwner(f"worker {model} {replica}", drain_s=project.config.serve.drain_s, signals=True)
    async with owner:
        _begin(beat_fd)
        post = Post(model, _seat(project, replica), topic, schema, noticing(project, WORKER), pin)

        def changed(details: WorkerDetails) -> None:
            told.say("ready" if details.version else "starting", details)

        worker = Worker(owner, post, registry, loader, changed, alone.pointer if alone else None)
        worker.start()
        if alone is not None:
            _listen(owner, project, RoleOps(worker.check, lambda: told.record))
        await owner.stopped()
    told.end()


async def _decoy(project: Project, replica: str, beat_fd: int, alone: Alone | None) -> None:
    told = Told(project, DECOY, "", replica)
    journals = open_journals(project, topic_schemas(project))
    owner = TaskOwner("decoy", drain_s=project.config.serve.drain_s, signals=True)
    async with owner:
        _begin(beat_fd)
        seats = noticing(project, DECOY)
        decoy = Decoy(
            owner, seats, _seat(project, replica), journals, lambda details: told.say("ready", details)
        )
        decoy.start()
        if alone is not None:
            _listen(owner, project, RoleOps(decoy.check, lambda: told.record))
        await owner.stopped()
    told.end()


async def _gateway(project: Project, replica: str, beat_fd: int) -> None:
    from rdv.serving.gateway.role import run_gateway

    told = Told(project, GATEWAY, "", replica)
    _begin(beat_fd)
    name = replica if len(replica) > 1 else ""  # a supervisor calls it `0`, again and again
    await run_gateway(project, asyncio.Event(), lambda facts: told.say("ready", facts), name, signals=True)
    told.end()


def _listen(owner: TaskOwner, project: Project, app: RoleOps) -> None:
    sock = ops_socket(project.config.serve)
    if sock is not None:
        owner.stack.callback(sock.close)
        owner.task("ops", ops_server(app, sock).serve)


def _begin(beat_fd: int) -> None:
    if beat_fd >= 0:
        start_beating(beat_fd)


def main() -> None:
    """A child of `rdv serve`: the role and its project file as arguments; ends with the error's exit code."""
    parser = argparse.ArgumentParser(prog="rdv.serving.roles")
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--replica", default="")
    parser.add_argument("--beat-fd", type=int, default=-1)
    parser.add_argument("--pin", type=pin_of, default=None)
    asked = parser.parse_args()
    code = int(Exit.OK)
    try:
        run_role(read_project(asked.project), asked.role, asked.model, asked.replica, asked.beat_fd, asked.pin)
    except RdvError as error:
        print(f"rdv serve {asked.role} {asked.model}: {error}", file=sys.stderr)
        code = int(error.exit_code)
    except Exception:
        traceback.print_exc()
        code = int(Exit.FAILED)
    sys.stderr.flush()
    os._exit(code)  # threads that follow the registry or load a model do not hold up the end


if __name__ == "__main__":
    main()
