"""The warm fork server: `python -P -m rdv.backends.local.forkserver SOCKET`, started by a `LocalCluster`.

One thread, one loop. It imports what steps need and forks a child for each; it never computes anything itself: a
child forked after its parent has run an OpenMP region hangs in its own first one. It sees every end first, writes
the outcome and reports it. When its dispatcher is gone it ends all steps and itself.
"""

from __future__ import annotations

import gc
import heapq
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rdv.backends.local.child import prepare, reseed, run_step
from rdv.backends.local.files import cancel_asked, settle
from rdv.backends.local.memory import (
    MemoryGroup,
    MemoryGroups,
    children,
    family,
    memory_groups,
    resident_bytes,
    start_ticks,
)
from rdv.backends.local.messages import (
    MESSAGE_BYTES,
    Cancel,
    Ended,
    Run,
    Running,
    Said,
    Started,
    encode,
    to_server,
)
from rdv.backends.local.verdict import Ending, verdict
from rdv.backends.ports import Outcome, Status
from rdv.processes import adopt_orphans, signal_group

_LOOKS = 100  # a step that flees faster than this is left to the next end of a step
_SAMPLE_S = 0.2
_SAMPLE_GUARDING_S = 0.05
"""Between two looks at the steps' memory: where a cgroup holds the limit, and where the look itself does."""


@dataclass(slots=True)
class _Step:
    run: Run
    pid: int
    pidfd: int
    said_fd: int
    group: MemoryGroup | None
    began: float
    peak_bytes: int = 0
    memory: bool = False
    late: bool = False
    cancelled: str = ""


class ForkServer:
    """Runs the steps that its dispatcher sends, and tells it of each start and end."""

    def __init__(self, dispatcher: socket.socket, groups: MemoryGroups | None) -> None:
        self._dispatcher, self._groups = dispatcher, groups
        self._steps: dict[str, _Step] = {}
        self._by_pidfd: dict[int, _Step] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._next_sample = 0.0
        self._tried: set[str] = set()
        self._cold: set[str] = set()
        self._poll = select.epoll()
        self._poll.register(dispatcher.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        """Run until the dispatcher closes its end; then nothing of any step is left."""
        while True:
            for fd, _ in self._poll.poll(self._patience_s()):
                if fd in self._by_pidfd:
                    self._finish(self._by_pidfd[fd])
                elif not self._obey():
                    return self._abandon()
            self._watch(time.monotonic())

    def _patience_s(self) -> float:
        if not self._steps:
            return -1
        until = min(self._next_sample, self._deadlines[0][0] if self._deadlines else self._next_sample)
        return max(0.0, until - time.monotonic())

    def _obey(self) -> bool:
        """Carry out one message; False when there is no dispatcher any more."""
        try:
            data = self._dispatcher.recv(MESSAGE_BYTES)
        except ConnectionError:
            return False
        if not data:
            return False
        message = to_server.decode(data)
        if isinstance(message, Run):
            self._start(message)
        else:
            self._cancel(message)
        return True

    def warm(self, modules: Iterable[str]) -> None:
        """Import modules before the next fork, each at most once; one that cannot be imported is the step's problem."""
        new = [name for name in modules if name not in self._tried]
        self._tried.update(new)
        for name in new:
            with suppress(Exception):
                importlib.import_module(name)
        if new:
            gc.collect()
            gc.freeze()  # what is shared with the children stays shared: their collector does not touch it

    def _tell(self, message: Running | Ended) -> None:
        with suppress(ConnectionError):  # its end is noticed by the next recv
            self._dispatcher.send(encode(message))

    def _start(self, run: Run) -> None:
        module = run.entry.partition(":")[0]
        self.warm([*sorted(self._cold), module] if module.startswith("rdv.") else sorted(self._cold))
        self._cold.clear()
        folder = Path(run.folder)
        if reason := cancel_asked(folder):
            return self._settle(folder, Outcome(step=run.step, status=Status.CANCELLED, reason=reason))
        try:
            step = self._fork(run, folder)
        except OSError as error:
            reason = f"its process could not be made: {error}"
            return self._settle(folder, Outcome(step=run.step, status=Status.FAILED, reason=reason))
        self._steps[run.step] = self._by_pidfd[step.pidfd] = step
        self._poll.register(step.pidfd, select.EPOLLIN)
        heapq.heappush(self._deadlines, (step.began + run.wall_s, run.step))
        if len(self._steps) == 1:
            self._next_sample = step.began + self._sample_s()
        record = Started(step.pid, start_ticks(step.pid), time.time())
        with suppress(OSError):
            folder.joinpath("started.json").write_bytes(encode(record))
        if reason := cancel_asked(folder):  # between the first look and started.json nobody could see the process
            self._cancel(Cancel(run.step, reason))
        self._tell(Running(run.step, step.pid))

    def _fork(self, run: Run, folder: Path) -> _Step:
        group = self._groups.make(run.memory_mb << 20) if self._groups else None
        parent, warm = os.getpid(), len(sys.modules)
        reading, writing = os.pipe()
        reseed()
        try:
            began = time.monotonic()
            pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            if group:
                group.remove()
            raise
        if pid == 0:
            procs = group.folder.joinpath("cgroup.procs") if group else None
            run_step(folder, parent, writing, lambda: procs.write_text("0") if procs else None, warm)
        os.close(writing)
        return _Step(run, pid, os.pidfd_open(pid), reading, group, began)

    def _cancel(self, message: Cancel) -> None:
        step = self._steps.get(message.step)
        if step is not None:
            step.cancelled = step.cancelled or message.reason
            self._kill(step)

    def _kill(self, step: _Step) -> None:
        """SIGKILL everything that belongs to a step; its end is seen as every end is."""
        members = set(step.group.pids()) if step.group else set(family(step.pid))
        signal_group(step.pid, signal.SIGKILL)
        for pid in members - {step.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(step.pidfd, signal.SIGKILL)

    def _watch(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            step = self._steps.get(heapq.heappop(self._deadlines)[1])
            if step is not None:
                step.late = True
                self._kill(step)
        if self._steps and now >= self._next_sample:
            self._next_sample = now + self._sample_s()
            for step in self._steps.values():
                self._sample(step)

    def _sample_s(self) -> float:
        return _SAMPLE_S if self._groups else _SAMPLE_GUARDING_S

    def _sample(self, step: _Step) -> None:
        members = step.group.pids() if step.group else list(family(step.pid))
        resident = sum(map(resident_bytes, members))
        step.peak_bytes = max(step.peak_bytes, resident)
        over = step.group.oom_kills() > 0 if step.group else resident > step.run.memory_mb << 20
        if over and not step.memory:
            step.memory = True
            self._kill(step)

    def _finish(self, step: _Step, lost: str = "") -> None:
        """Take the end of a step's process: end its group, read what it left, write and report the outcome."""
        wall_s = time.monotonic() - step.began
        folder = Path(step.run.folder)
        self._poll.unregister(step.pidfd)
        del self._by_pidfd[step.pidfd], self._steps[step.run.step]
        self._kill(step)  # before reaping: until then nobody else can get this group's number
        _, status, usage = os.wait4(step.pid, 0)
        os.close(step.pidfd)
        said = _last_word(step.said_fd)
        self._cold.update(said.cold)
        if step.group:
            step.memory = step.memory or step.group.oom_kills() > 0
            step.group.remove()
        self._end_strays()
        code = os.waitstatus_to_exitcode(status)
        ending = Ending(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            wall_s=wall_s,
            wall_limit_s=step.run.wall_s,
            peak_bytes=max(step.peak_bytes, usage.ru_maxrss << 10),
            limit_bytes=step.run.memory_mb << 20,
            memory=step.memory,
            late=step.late,
            cancelled=step.cancelled or cancel_asked(folder),
            lost=lost,
            said=said,
        )
        self._settle(folder, verdict(step.run.step, ending))

    def _settle(self, folder: Path, outcome: Outcome) -> None:
        with suppress(OSError):  # a full disk: the dispatcher is told, and whoever asks later finds the step lost
            outcome = settle(folder, outcome)
        self._tell(Ended(outcome))

    def _end_strays(self) -> None:
        """Reap processes whose step is gone, and end them once no step is left to which they could belong.

        A dying parent hands its children to us, so one look is not enough: look until nobody is left.
        """
        steps = {step.pid for step in self._steps.values()}
        for _ in range(_LOOKS):
            strays = set(children(os.getpid())) - steps
            for pid in strays:
                self._end_stray(pid, spare=bool(steps))
            if steps or not strays:
                return

    def _end_stray(self, pid: int, spare: bool) -> None:
        if not spare:
            for member in list(family(pid)):
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG if spare else 0)

    def _abandon(self) -> None:
        """End every step because nobody waits for it any more."""
        for step in list(self._steps.values()):
            self._kill(step)
            self._finish(step, lost="its dispatcher ended before it")


def _last_word(said_fd: int) -> Said:
    """What the step left in its pipe; nothing when it was killed. A descendant that holds the pipe cannot delay it."""
    os.set_blocking(said_fd, False)
    try:
        data = os.read(said_fd, MESSAGE_BYTES)
        return msgspec.json.decode(data, type=Said) if data else Said()
    except (BlockingIOError, msgspec.MsgspecError):
        return Said()
    finally:
        os.close(said_fd)


def main(arguments: list[str]) -> None:
    """Serve the dispatcher at the other end of the socket with this number. Then `--sample` or `--cgroup`, modules."""
    dispatcher = socket.socket(fileno=int(arguments[0]))
    prepare()
    adopt_orphans()
    groups = memory_groups() if arguments[1] == "--cgroup" else None
    if groups:
        groups.sweep()
    server = ForkServer(dispatcher, groups)
    server.warm(arguments[2:])
    server.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
