"""A process that an earlier command started: found again by its id and the moment of its start."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path


def born(pid: int) -> int:
    """When a process started, in clock ticks since the machine did; 0 when it has ended."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def boot() -> str:
    """The id of the machine's start: process ids and their moments mean nothing after another one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Adopted:
    """What `subprocess.Popen` offers, for a process that is no child of ours: how it ended is not to be had."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self._descriptor = pid, descriptor
        self.returncode: int | None = None

    def __del__(self) -> None:
        os.close(self._descriptor)

    @classmethod
    def find(cls, pid: int, when: int) -> Adopted | None:
        """The process of this id that started then; None when it is gone."""
        try:
            descriptor = os.pidfd_open(pid)
        except (ProcessLookupError, OSError):
            return None
        found = cls(pid, descriptor)
        return found if when and born(pid) == when else None

    def poll(self) -> int | None:
        """None while it runs, then 0."""
        if self.returncode is None and select.select([self._descriptor], [], [], 0)[0]:
            self.returncode = 0
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal; having ended is fine."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def wait(self) -> int:
        """Wait until it has ended."""
        select.select([self._descriptor], [], [])
        return 0
