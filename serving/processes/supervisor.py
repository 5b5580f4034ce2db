"""`rdv serve`: every role of a project on this machine as child processes, kept running and stopped in order.

Whatever ends this process, even a kill -9, ends its children with it (the kernel sees to that), so the next
`rdv serve` starts on a clean machine; there is at most one a project. A child that is stopped or stuck does not beat
any more: it is killed and started again.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from rdv.backends import select
from rdv.config import Project
from rdv.errors import ConfigError, Exit, RdvError, Unreachable, UsageError
from rdv.files import make_folders
from rdv.processes import ProcessEvent, ProcessSpec, ProcessSupervisor, log_event
from rdv.restarts import RestartPolicy
from rdv.serving.processes.canaries import CanaryKeeper
from rdv.serving.processes.counts import read_counts
from rdv.serving.processes.heartbeat import BEAT_S, Pulse
from rdv.serving.processes.limited import inherited_environment
from rdv.serving.processes.project_file import save_project
from rdv.serving.processes.records import RoleRecord, born, read_records, remove_record, sweep_records, write_record
from rdv.serving.processes.specs import GATEWAY, ExtraRole, RoleProcess, role_argv, role_processes
from rdv.serving.rollouts import follow_rollouts
from rdv.sockets import connected_unix_socket
from rdv.supervise import TaskOwner
from rdv.telemetry import json_logs

SUPERVISOR = "supervisor"
RESTART = RestartPolicy(first_s=0.1, factor=1.5, ceiling_s=5.0)
_LOCK = "serve.lock"
_STOP_S = 5.0


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """One child process as the supervisor sees it; see `rdv.processes.ProcessState`. reason: of its last death."""

    name: str
    status: str
    pid: int
    starts: int
    reason: str = ""


def serve(
    project: Project, extra: Sequence[ExtraRole] = (), on_ready: Callable[[RoleRecord], None] = lambda record: None
) -> None:
    """Serve a project until SIGTERM, SIGINT or SIGHUP: the first stops in order, a second one at once.

    extra: commands to keep running beside the roles. on_ready: called with the gateway's record when it first takes
    requests. Raises UsageError when the project is served already, ConfigError when a role cannot run as configured.
    """
    make_folders(project.run_folder / "bus")
    with _only_one(project), json_logs(SUPERVISOR):
        asyncio.run(_Serving(project, extra, on_ready).run())


class _Serving:
    def __init__(self, project: Project, extra: Sequence[ExtraRole], on_ready: Callable[[RoleRecord], None]) -> None:
        self._project, self._on_ready = project, on_ready
        self._extra, self._counts = extra, read_counts(project.state)
        self._roles = {one.name: one for one in role_processes(project.config, extra, self._counts)}
        self._pulses: dict[str, Pulse] = {}
        self._processes = ProcessSupervisor(self._happened)
        drain_s = project.config.serve.drain_s
        self._owner = TaskOwner("serve", drain_s=drain_s + 4 * _STOP_S, signals=True)
        self._started, self._ready = time.time(), False
        self._failure: RdvError | None = None
        self._file, self._recounting = project.run_folder, False

    async def run(self) -> None:
        """Everything from the first start to the last stop."""
        run = self._project.run_folder
        sweep_records(run)
        sweep_sockets(self._project)
        self._owner.on_stop("roles", drain=self._stop_in_order, flush=self._end)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._owner.stop, "SIGHUP")
        try:
            async with self._owner:
                self._file = save_project(self._project)
                for role in self._roles.values():
                    self._start(role)
                self._owner.task("pulse", self._watch)
                self._keep_canaries()
                await self._owner.stopped()
        finally:
            for pulse in self._pulses.values():
                pulse.close()
            sweep_sockets(self._project)
            remove_record(run, SUPERVISOR, "", "")
        if self._failure is not None:
            raise self._failure

    def _start(self, role: RoleProcess) -> None:
        pulse = self._pulses[role.name] = Pulse(time.monotonic)
        self._processes.start(self._spec(role, role_argv(role, self._file, pulse.write_fd), pulse.write_fd))

    def _keep_canaries(self) -> None:
        """Begin to follow the rollouts of the project's models."""
        keeper = CanaryKeeper(self._begin, self._end_some)
        registry = select.registry(self._project)
        follow_rollouts(registry, self._project.config.models, keeper.told, lambda: not self._owner.stopping)
        self._owner.task("canaries", keeper.keep)

    def _begin(self, role: RoleProcess) -> None:
        if not self._owner.stopping:
            self._roles[role.name] = role
            self._start(role)

    async def _end_some(self, names: list[str]) -> None:
        await self._processes.stop(*names)
        for name in names:
            self._processes.forget(name)
            self._pulses.pop(name).close()
            del self._roles[name]
        self._tell()

    def _recount(self) -> None:
        """Start and stop processes as the counts file says now; one that cannot be read changes nothing."""
        try:
            counts = read_counts(self._project.state)
        except RdvError:
            return
        if counts.revision == self._counts.revision or self._recounting:
            return
        self._counts, self._recounting = counts, True
        wanted = {one.name: one for one in role_processes(self._project.config, self._extra, counts.set())}
        usual = {name for name, role in self._roles.items() if role.pin is None}
        come = [one for name, one in wanted.items() if name not in usual]
        self._owner.spawn("recount", self._move(sorted(usual - wanted.keys()), come))

    async def _move(self, away: list[str], come: list[RoleProcess]) -> None:
        for role in come:
            self._begin(role)
        if away:
            await self._end_some(away)
        self._recounting = False

    def _spec(self, role: RoleProcess, argv: tuple[str, ...], beat_fd: int) -> ProcessSpec:
        stop_s = _STOP_S + (self._project.config.serve.drain_s if role.turn == 0 else 0.0)
        return ProcessSpec(
            name=role.name,
            argv=argv,
            env=inherited_environment(),
            folder=self._project.folder,
            restart=RESTART,
            stop_s=stop_s,
            stdout=sys.stderr.fileno(),
            pass_fds=(beat_fd,),
        )

    async def _watch(self) -> None:
        """Replace children that do not beat, and tell when the gateway first takes requests."""
        while True:
            await asyncio.sleep(BEAT_S)
            for name, state in self._processes.states().items():
                pid = state.pid if state.status == "running" else 0
                reason = self._pulses[name].check(pid) if self._roles[name].beats else ""
                if reason:
                    log_event(ProcessEvent(name, "replaced", pid, None, reason))
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            if not self._ready:
                self._look_for_gateway()
            self._recount()

    def _look_for_gateway(self) -> None:
        """Once the gateway takes requests: keep its port over restarts, and say so."""
        for record in read_records(self._project.run_folder):
            if record.role == GATEWAY and record.state == "ready":
                self._ready = True
                port = record.details.get("port")
                if isinstance(port, int):
                    config = self._project.config
                    fixed = msgspec.structs.replace(config, serve=msgspec.structs.replace(config.serve, port=port))
                    save_project(msgspec.structs.replace(self._project, config=fixed))
                self._on_ready(record)
                return

    def _happened(self, event: ProcessEvent) -> None:
        log_event(event)
        if event.kind == "exited":
            if self._roles[event.name].role == GATEWAY:
                sweep_sockets(self._project)
            if event.code == Exit.USAGE and self._roles[event.name].pin is None:
                self._failure = ConfigError(f"{event.name} cannot run as configured", "its own message is above")
                self._owner.stop(f"{event.name} cannot run as configured")
        self._tell()

    def _tell(self) -> None:
        children = [
            Child(name=one.name, status=one.status, pid=one.pid, starts=one.starts, reason=one.reason)
            for one in self._processes.states().values()
        ]
        record = RoleRecord(
            role=SUPERVISOR,
            name="",
            replica="",
            pid=os.getpid(),
            born=born(),
            started=self._started,
            state="stopping" if self._owner.stopping else "ready",
            details={"children": msgspec.to_builtins(children)},
        )
        with suppress(OSError):
            write_record(self._project.run_folder, record)

    async def _stop_in_order(self) -> None:
        self._tell()
        for turn in sorted({role.turn for role in self._roles.values()}):
            names = [name for name in self._processes.states() if self._roles[name].turn == turn]
            if names:
                await self._processes.stop(*names)

    async def _end(self) -> None:
        self._processes.kill()
        await self._processes.stop()


def sweep_sockets(project: Project) -> None:
    """Remove the sockets of gateways that are gone, so that nobody dials them."""
    run = project.run_folder
    for path in [*run.glob("bus/*.sock"), *run.glob("admin*.sock")]:
        try:
            connected_unix_socket(path).close()
        except Unreachable:
            path.unlink(missing_ok=True)


@contextmanager
def _only_one(project: Project) -> Iterator[None]:
    with (project.run_folder / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pids = [record.pid for record in read_records(project.run_folder) if record.role == SUPERVISOR]
            who = f"by process {pids[0]}" if pids else "by another process"
            raise UsageError(f"{project.folder} is served already, {who}", "see `rdv status`, or stop it") from None
        yield
