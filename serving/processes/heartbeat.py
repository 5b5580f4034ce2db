"""How a supervisor learns that a role process is stopped or stuck: its event loop writes a byte to a pipe, always."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

BEAT_S = 0.2
STOPPED_S = 0.5
STUCK_S = 30.0
STARTING_S = 120.0
_READ_BYTES = 4096


def start_beating(fd: int) -> None:
    """Write to a descriptor at every BEAT_S of the running loop's time; a full or closed pipe is fine."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)

    def beat() -> None:
        try:
            os.write(fd, b".")
        except BlockingIOError:
            pass  # whoever listens is stopped itself
        except OSError:
            return
        loop.call_later(BEAT_S, beat)

    beat()


def verdict(stopped: bool, silent_s: float, began: bool) -> str:
    """Why a process that lives must be replaced, empty when it need not. Pure.

    stopped: the kernel says that it is stopped. silent_s: since its last beat, or since its start when it has not
    begun to beat.
    """
    if stopped and silent_s >= STOPPED_S:
        return f"it is stopped and has been silent for {silent_s:.1f} s"
    limit_s = STUCK_S if began else STARTING_S
    return f"its event loop has been silent for {silent_s:.0f} s" if silent_s >= limit_s else ""


class Pulse:
    """The supervisor's end of one process's pipe. `write_fd` is for the child, over all its restarts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._pid, self._last, self._began = 0, 0.0, False

    def check(self, pid: int) -> str:
        """Why this process must be replaced now, or empty. To be called regularly; pid 0: it does not run now."""
        now, heard = self._clock(), self._heard()
        if pid != self._pid:
            self._pid, self._last, self._began = pid, now, False
        elif heard:
            self._last, self._began = now, True
        return verdict(is_stopped(pid), now - self._last, self._began) if pid else ""

    def _heard(self) -> bool:
        try:
            return bool(os.read(self._read_fd, _READ_BYTES))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._read_fd)
        os.close(self.write_fd)


def is_stopped(pid: int) -> bool:
    """Whether the kernel says that a process is stopped (by a signal or a debugger)."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in "Tt"
