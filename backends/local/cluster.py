"""The embedded cluster: steps as supervised processes of this machine, forked from a warm server.

A `LocalCluster` is a dispatcher. It keeps the queue; its fork server starts, watches and ends the processes; what is
worth knowing is in files, so that other processes can list, follow and cancel steps after both are gone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from rdv.backends.local.files import StepFiles, encode_spec, joined, microseconds, started
from rdv.backends.local.locks import Tokens, live
from rdv.backends.local.logs import chunks
from rdv.backends.local.memory import memory_groups, start_ticks
from rdv.backends.local.messages import Cancel, Ended, Joined, Run, Running, encode
from rdv.backends.local.server import Server
from rdv.backends.ports import Outcome, Status, StepSpec
from rdv.errors import Unreachable, UsageError
from rdv.processes import signal_group

_CLOSE_S = 10.0
_WITHOUT_OUTCOME = "its dispatcher ended before it had an outcome"


@dataclass(slots=True)
class _Waited:
    """A step that has not ended: this dispatcher's own (with its token), or another's that somebody waits for here."""

    spec: StepSpec | None = None
    outcome: Outcome | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class LocalCluster:
    """Runs at most `max_parallel` steps at a time as processes; the `Cluster` port's embedded adapter.

    state: the project's state folder. preload: modules that the fork server imports at its start; what else is worth
    importing it learns from the steps. cgroups: False = hold memory limits by sampling even where cgroups could.
    Any thread may call anything. Memory and time per step do not grow with the number of steps.
    """

    outlived, ordered = False, True

    def __init__(self, state: Path, max_parallel: int, *, preload: Sequence[str] = (), cgroups: bool = True) -> None:
        if max_parallel < 1:
            raise UsageError(f"a cluster runs at least one step at a time, not {max_parallel}")
        self._files = StepFiles(state)
        self._tokens = Tokens(state / "locks")
        self._locks = self._tokens.locks
        self._max_parallel, self._preload, self._cgroups = max_parallel, tuple(preload), cgroups
        self._guard = threading.RLock()
        self._steps: dict[str, _Waited] = {}
        self._queue: deque[str] = deque()
        self._running: dict[str, int] = {}
        self._server: Server | None = None
        self._now_us = microseconds()
        self._closed = False

    def dispatch(self, spec: StepSpec) -> str:
        """Start a step, queue it, or join the unfinished one with its token; its id, which sorts by time in its run."""
        body = encode_spec(spec)
        with self._guard:
            if self._closed:
                raise Unreachable("this cluster is closed", "open another one")
            if own := self._tokens.own(spec.token):
                return own
            step = self._files.new_id(spec, next(self._now_us))
            self._locks.take(live(step))  # before anybody can see the step: without this lock it counts as lost
            self._files.create(step, body)
            owner = self._tokens.take(spec.token, step)
            if owner:
                self._files.folder(step).joinpath("joined.json").write_bytes(encode(Joined(owner)))
                self._locks.release(live(step))
                return step
            self._steps[step] = _Waited(spec)
            self._queue.append(step)
            self._fill()
        return step

    def wait(self, step: str, timeout_s: float | None = None) -> Outcome:
        """The step's outcome once it has ended, or as it stands after timeout_s. NotFound for an unknown id."""
        with self._guard:
            waited = self._steps.get(step) or self._follow(step)
        waited.ended.wait(timeout_s)
        return waited.outcome or self._look(step)

    def cancel(self, step: str, reason: str) -> None:
        """End a step with its whole process group; leave a joined one to its owner; an ended one stays as it is."""
        folder = self._files.known(step)
        with self._guard:
            waited = self._steps.get(step)
            if step in self._running and self._server is not None:
                with suppress(OSError):  # the server is gone: the step is lost, and its reader will say so
                    self._server.send(Cancel(step, reason))
            elif waited is not None and waited.spec is not None:
                self._queue.remove(step)
                self._end(Outcome(step=step, status=Status.CANCELLED, reason=reason))
            elif joined(folder):
                self._files.settle(Outcome(step=step, status=Status.CANCELLED, reason=reason, joined=True))
                if waited is not None:
                    self._tell(step, self._look(step))
            elif not self._look(step).status.ended:
                _cancel_elsewhere(folder, reason)

    def logs(self, step: str, follow: bool = False) -> Iterator[bytes]:
        """The step's output in chunks; with follow, until the step has ended. NotFound for an unknown id."""
        folder = self._files.known(step)
        source = joined(folder)
        return chunks(
            self._files.known(source) if source else folder,
            (lambda: self._look(step).status.ended) if follow else None,
        )

    def steps(self, run: str) -> Mapping[str, Outcome]:
        """All steps of a run, by id, in order of dispatch; whichever process dispatched them."""
        return {step: self._look(step) for step in self._files.of_run(run)}

    def close(self) -> None:
        """Cancel what this dispatcher still has queued or running, and end its fork server. Twice is fine."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            for step in list(self._queue):
                self.cancel(step, "its dispatcher closed")
            running = [self._steps[step] for step in self._running]
            for step in self._running:
                self.cancel(step, "its dispatcher closed")
            server, self._server = self._server, None
            followed = [waited for waited in self._steps.values() if waited.spec is None]
        for waited in running:
            waited.ended.wait(_CLOSE_S)
        if server is not None:
            server.close()
        with self._guard:
            self._locks.close()
        for waited in followed:
            waited.ended.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self) -> None:
        while self._queue and len(self._running) < self._max_parallel:
            step = self._queue.popleft()
            spec = self._steps[step].spec
            assert spec is not None
            limits = spec.resources
            folder = str(self._files.folder(step))
            self._running[step] = 0
            try:
                if self._server is None:
                    self._server = Server(self._locks.fd, self._preload, self._cgroups, self._hear, self._server_died)
                self._server.send(Run(step, folder, spec.entry, limits.memory_mb, limits.cpus, limits.wall_s))
            except OSError as error:
                if self._server is None:  # else its reader finds the step among the running ones
                    del self._running[step]
                    reason = f"the fork server cannot be started: {error}"
                    self._end(Outcome(step=step, status=Status.LOST, reason=reason))

    def _hear(self, message: Running | Ended) -> None:
        with self._guard:
            if isinstance(message, Running):
                self._running[message.step] = message.pid
            else:
                self._running.pop(message.outcome.step, None)
                self._fill()  # first, so that the freed place is idle no longer than it must be
                self._end(message.outcome, on_disk=True)

    def _server_died(self, server: Server, how: str) -> None:
        with self._guard:
            lost, self._running = self._running, {}
            for pid in lost.values():
                if pid:
                    signal_group(pid, signal.SIGKILL)  # its leader died with the server, not so what that had started
            if lost and self._cgroups and (groups := memory_groups()):
                groups.sweep()
            for step in lost:
                self._end(Outcome(step=step, status=Status.LOST, reason=f"the fork server ended: {how}"))
            if self._server is server:
                self._server = None
                self._fill()

    def _end(self, outcome: Outcome, on_disk: bool = False) -> None:
        """Settle one of this dispatcher's own steps: on disk, then for joined dispatchers, then for waiting threads."""
        step = outcome.step
        if not on_disk:
            outcome = self._settled(outcome)
        spec = self._steps[step].spec
        if spec is not None:
            self._tokens.release(spec.token)
        self._locks.release(live(step))
        self._tell(step, outcome)

    def _tell(self, step: str, outcome: Outcome) -> None:
        waited = self._steps.pop(step)
        waited.outcome = outcome
        waited.ended.set()

    def _follow(self, step: str) -> _Waited:
        """Wait for a step of another dispatcher, in a thread that its lock wakes."""
        waited = _Waited()
        outcome = self._look(step)
        if outcome.status.ended:
            waited.outcome = outcome
            waited.ended.set()
            return waited
        self._steps[step] = waited
        source = joined(self._files.folder(step)) or step
        threading.Thread(target=self._wake, args=(step, source), name=f"rdv-follow-{step}", daemon=True).start()
        return waited

    def _wake(self, step: str, source: str) -> None:
        with suppress(OSError):
            self._locks.wait_until_free(live(source))
        with self._guard:
            if self._closed:
                return
            self._locks.release(live(source))
            if step in self._steps:
                self._tell(step, self._look(step))

    def _look(self, step: str) -> Outcome:
        """How a step stands by its files and lock; a step that nobody keeps alive any more is settled as lost."""
        folder = self._files.known(step)
        outcome = self._files.outcome(step)
        if outcome is not None:
            return outcome
        source = joined(folder)
        if source:
            found = replace(self._look(source), step=step, joined=True)
            return self._settled(found) if found.status.ended else found
        if not self._alive(step):
            # an outcome comes before the lock goes: look again, and only then call the step lost
            lost = Outcome(step=step, status=Status.LOST, reason=_WITHOUT_OUTCOME)
            return self._files.outcome(step) or self._settled(lost)
        process = started(folder)
        if process is None:
            return Outcome(step=step, status=Status.QUEUED)
        return Outcome(step=step, status=Status.RUNNING, wall_s=max(0.0, time.time() - process.at))

    def _settled(self, outcome: Outcome) -> Outcome:
        """The outcome that stands; one that cannot be written (a full disk) stands for those who ask now."""
        with suppress(OSError):
            return self._files.settle(outcome)
        return outcome

    def _alive(self, step: str) -> bool:
        with self._guard:
            waited = self._steps.get(step)
            own = waited is not None and waited.spec is not None
        return own or self._locks.held_elsewhere(live(step))


def _cancel_elsewhere(folder: Path, reason: str) -> None:
    """Ask another dispatcher for the end of a step, and end its process when it has one already."""
    folder.joinpath("cancel").write_text(reason)
    process = started(folder)
    if process is None:
        return  # whoever starts it looks for the request after telling of the process
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(process.pid)
        try:
            if start_ticks(process.pid) == process.ticks:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
