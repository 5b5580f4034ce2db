"""One server as a child process: started in a clean environment, awaited, frozen, stopped, and nothing left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rdv.backends.devcluster.adopted import Adopted, born
from rdv.errors import Interrupted, RdvError, TimedOut
from rdv.processes import die_with_parent, how_it_ended, signal_group

_LOOK_S = 0.02
_FREEZE_S = 30.0
_LOG_TAIL_BYTES = 2000


class ServerProcess:
    """A server's process group. tied: it dies with the thread that started it (tests), else it stays (dev-cluster)."""

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path, tied: bool = True, stop_s: float = 10.0
    ) -> None:
        self.name, self.log = name, log
        self._argv, self._env, self._tied, self._stop_s = tuple(argv), dict(env), tied, stop_s
        self._process: subprocess.Popen[bytes] | Adopted | None = None
        self._given_up = False

    @property
    def pid(self) -> int:
        """Process id of the group's leader, 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    @property
    def born(self) -> int:
        """When it started, as the kernel counts; with the id it names the process beyond doubt. 0: it has ended."""
        return born(self.pid) if self.pid else 0

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def adopt(self, pid: int, when: int) -> bool:
        """Take over the process that an earlier command started; False when it is gone."""
        if not self.runs:
            self._process = Adopted.find(pid, when)
        return self.runs

    def give_up(self) -> None:
        """Have whoever waits for it stop waiting, with Interrupted."""
        self._given_up = True

    def start(self) -> None:
        """Start it; it is not ready yet. Its output is appended to the log."""
        parent = os.getpid()
        self._given_up = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                env=self._env,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=(lambda: die_with_parent(parent)) if self._tied else None,
            )

    def until(self, ready: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
        """Wait until the server is as asked for; RdvError with the end of its log when it ends or takes too long."""
        end = time.monotonic() + limit_s
        while not ready():
            if self._given_up:
                raise Interrupted(f"{self.name} is not waited for any more")
            process = self._process
            if process is None or process.poll() is not None:
                code = "not running" if process is None else how_it_ended(process.returncode or 0)
                raise RdvError(f"{self.name} ended before {what}: {code}\n{self.tail()}", f"see {self.log}")
            if time.monotonic() > end:
                raise TimedOut(f"{self.name}: not {what} within {limit_s:g} s\n{self.tail()}", f"see {self.log}")
            time.sleep(_LOOK_S)

    def ask_to_stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, frozen or not, and wait for nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, hard after its time, with everything in its group; returns the leader's code. Twice is fine."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            end = time.monotonic() + self._stop_s
            while not _has_ended(process):
                if time.monotonic() > end:
                    break
                time.sleep(_LOOK_S)
            signal_group(process.pid, signal.SIGKILL)  # before reaping: until then the number is this group's
        return process.wait()

    def kill(self) -> None:
        """SIGKILL the whole group, as a power cut would."""
        self.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it from running while its connections stay open; it has stopped when this returns."""
        signal_group(self.pid, signal.SIGSTOP)
        until = time.monotonic() + _FREEZE_S
        while not _stands_still(self.pid) and time.monotonic() < until:
            time.sleep(0.002)

    def thaw(self) -> None:
        """Let a frozen one run on."""
        signal_group(self.pid, signal.SIGCONT)

    def tail(self) -> str:
        """The end of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def _stands_still(pid: int) -> bool:
    """Whether no thread of a process runs any more: each stops when its turn comes, on a busy machine much later."""
    for stat in Path("/proc", str(pid), "task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            if stat.read_text().rpartition(")")[2].split()[0] not in "TZX":
                return False
    return True


def _has_ended(process: subprocess.Popen[bytes] | Adopted) -> bool:
    """Whether it has ended, without reaping it."""
    if isinstance(process, Adopted):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
