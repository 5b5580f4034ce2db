"""Child processes that are started, watched through pidfds, restarted after a death and stopped politely, then hard.

Each child leads a process group of its own, and dies when its parent does (PDEATHSIG), however the parent ends.
The decision what a death means is `rdv.restarts.after_death`; this file is the shell around it.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rdv.clock import Clock, SystemClock
from rdv.errors import NotFound, UsageError
from rdv.restarts import Again, RestartPolicy, after_death, recent

_log = logging.getLogger("rdv.processes")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel SIGKILL this process when the thread that forked it ends; at once if `parent` is gone already."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of those of its descendants whose own parent ends, instead of process 1."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_group(leader: int, number: int) -> None:
    """Send a signal to a whole process group; nobody left in it is fine."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def how_it_ended(code: int) -> str:
    """A return code of `subprocess` in words: negative is a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A child process. env: its whole environment, None = the parent's. stop_s: from SIGTERM to SIGKILL.

    restart: None = it is not started again. stdout, stderr: file descriptors, None = the parent's.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    folder: Path | None = None
    restart: RestartPolicy | None = RestartPolicy()
    stop_s: float = 10.0
    stdout: int | None = None
    stderr: int | None = None
    pass_fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """What happened to a child. kind: `started`, `exited`, `restarting`, `too_fast` (a restart, the policy's `fast`th

    within its window), `gave_up`, `stopped` or `killed` (did not stop in time). code: as in `subprocess`.
    """

    name: str
    kind: str
    pid: int = 0
    code: int | None = None
    reason: str = ""


def log_event(event: ProcessEvent) -> None:
    """Write an event to the log, one line."""
    level = logging.INFO if event.kind in ("started", "stopped") else logging.WARNING
    _log.log(level, "%s %s: pid %d %s", event.name, event.kind, event.pid, event.reason)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """How a child stands. status: `running`, `waiting` (for its restart), `stopping`, `ended` or `failed` (gave up).

    starts: how often it was started. since: CLOCK_MONOTONIC seconds of the last change. reason: of the last death.
    code: of the last end, as in `subprocess`; None before it.
    """

    name: str
    status: str
    pid: int
    starts: int
    since: float
    reason: str
    code: int | None = None


@dataclass(slots=True)
class _Child:
    spec: ProcessSpec
    status: str = "ended"
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    starts: int = 0
    since: float = 0.0
    reason: str = ""
    code: int | None = None
    deaths: list[float] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    again: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class ProcessSupervisor:
    """Child processes by name. All calls from one event loop, in the main thread: a child dies with that thread."""

    def __init__(
        self,
        on_event: Callable[[ProcessEvent], None] = log_event,
        *,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._on_event, self._chance = on_event, chance
        self._clock: Clock = clock or SystemClock()
        self._children: dict[str, _Child] = {}

    def start(self, spec: ProcessSpec) -> None:
        """Start a child and keep it running under its policy; a name that runs already is a UsageError."""
        known = self._children.get(spec.name)
        if known is not None and not known.idle.is_set():
            raise UsageError(f"process {spec.name} runs already (pid {self._pid(known)})", "stop it first")
        child = _Child(spec)
        self._children[spec.name] = child
        self._spawn(child)

    def restart(self, name: str, reason: str) -> None:
        """Stop a child politely, hard after its stop_s, and start it again; this is no death in its record.

        Returns at once. A child that waits for its restart starts now; one that has ended or failed starts anew; one
        that is being stopped stays stopped.
        """
        child = self._child(name)
        if child.status == "stopping":
            return
        child.reason = reason
        if child.process is None:
            self._unschedule(child)
            child.deaths.clear()
            self._spawn(child)
        else:
            child.again = True
            self._ask(child)

    async def stop(self, *names: str) -> None:
        """Stop these children (none named: all) together and return when their process groups are gone."""
        children = [self._child(name) for name in names] if names else list(self._children.values())
        for child in children:
            child.again = False
            self._unschedule(child)
            if child.process is None:
                self._settle(child, "failed" if child.status == "failed" else "ended")
            else:
                self._ask(child)
        for child in children:
            await child.idle.wait()

    def kill(self) -> None:
        """SIGKILL every child's process group now and start none again; `stop` then returns soon."""
        for child in self._children.values():
            child.again = False
            self._unschedule(child)
            if child.process is not None:
                child.status = "stopping"
                signal_group(child.process.pid, signal.SIGKILL)

    async def ended(self, name: str) -> ProcessState:
        """Wait until a child has ended for good (stopped, failed, or not to be restarted) and return its state."""
        child = self._child(name)
        await child.idle.wait()
        return self._state(child)

    def forget(self, name: str) -> None:
        """Know nothing of a child any more that has ended for good; UsageError while it has not."""
        child = self._child(name)
        if not child.idle.is_set():
            raise UsageError(f"process {name} has not ended (pid {self._pid(child)})", "stop it first")
        del self._children[name]

    def states(self) -> dict[str, ProcessState]:
        """How every child stands, in order of their first start."""
        return {name: self._state(child) for name, child in self._children.items()}

    def _child(self, name: str) -> _Child:
        try:
            return self._children[name]
        except KeyError:
            raise NotFound(f"no process is named {name!r}", f"known: {', '.join(self._children) or 'none'}") from None

    def _state(self, child: _Child) -> ProcessState:
        pid = self._pid(child)
        return ProcessState(
            child.spec.name, child.status, pid, child.starts, child.since, child.reason, child.code
        )

    def _pid(self, child: _Child) -> int:
        return child.process.pid if child.process is not None else 0

    def _spawn(self, child: _Child) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("start child processes from the main thread: they die with the thread that forked them")
        spec, parent = child.spec, os.getpid()
        child.timer = None
        child.starts += 1
        child.idle.clear()
        try:
            child.process = subprocess.Popen(
                spec.argv,
                env=spec.env,
                cwd=spec.folder,
                stdin=subprocess.DEVNULL,
                stdout=spec.stdout,
                stderr=spec.stderr,
                pass_fds=spec.pass_fds,
                process_group=0,
                preexec_fn=lambda: die_with_parent(parent),
            )
        except OSError as error:
            return self._died(child, None, f"it cannot be started: {error}")
        self._move(child, "running")
        child.pidfd = os.pidfd_open(child.process.pid)
        asyncio.get_running_loop().add_reader(child.pidfd, self._exited, child)
        self._tell(child, "started")

    def _exited(self, child: _Child) -> None:
        process = child.process
        assert process is not None
        asyncio.get_running_loop().remove_reader(child.pidfd)
        os.close(child.pidfd)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        signal_group(process.pid, signal.SIGKILL)  # before reaping: until then nobody else can own this group's number
        code = child.code = process.wait()
        self._unschedule(child)
        if child.status == "stopping":
            self._on_event(ProcessEvent(child.spec.name, "stopped", process.pid, code, how_it_ended(code)))
            child.process = None
            if child.again:
                child.again = False
                self._spawn(child)
            else:
                self._settle(child, "ended")
            return
        self._on_event(ProcessEvent(child.spec.name, "exited", process.pid, code, how_it_ended(code)))
        child.process = None
        self._died(child, code, how_it_ended(code))

    def _died(self, child: _Child, code: int | None, cause: str) -> None:
        policy, now = child.spec.restart, self._clock.monotonic()
        child.reason = cause
        if policy is None:
            if code is None:
                self._on_event(ProcessEvent(child.spec.name, "gave_up", 0, None, cause))
            return self._settle(child, "ended" if code is not None else "failed")
        child.deaths = [*recent(policy, child.deaths, now), now]
        decision = after_death(policy, child.deaths, now, self._chance(), cause)
        child.reason = decision.reason
        if not isinstance(decision, Again):
            self._on_event(ProcessEvent(child.spec.name, "gave_up", 0, code, decision.reason))
            return self._settle(child, "failed")
        self._move(child, "waiting")
        kind = "too_fast" if decision.too_fast else "restarting"
        self._on_event(ProcessEvent(child.spec.name, kind, 0, code, decision.reason))
        child.timer = asyncio.get_running_loop().call_later(decision.after_s, self._spawn, child)

    def _ask(self, child: _Child) -> None:
        assert child.process is not None
        if child.status == "stopping":
            return
        self._move(child, "stopping")
        os.kill(child.process.pid, signal.SIGTERM)
        child.timer = asyncio.get_running_loop().call_later(child.spec.stop_s, self._kill, child)

    def _kill(self, child: _Child) -> None:
        child.timer = None
        if child.process is not None:
            self._tell(child, "killed", f"did not stop within {child.spec.stop_s:g} s of SIGTERM")
            signal_group(child.process.pid, signal.SIGKILL)

    def _settle(self, child: _Child, status: str) -> None:
        self._move(child, status)
        child.idle.set()

    def _move(self, child: _Child, status: str) -> None:
        child.status, child.since = status, self._clock.monotonic()

    def _unschedule(self, child: _Child) -> None:
        if child.timer is not None:
            child.timer.cancel()
            child.timer = None

    def _tell(self, child: _Child, kind: str, reason: str = "") -> None:
        self._on_event(ProcessEvent(child.spec.name, kind, self._pid(child), None, reason))
