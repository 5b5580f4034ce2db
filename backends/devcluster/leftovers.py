"""What servers leave when they end without cleaning up: processes of tasks, mounts, control groups."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_GONE_S = 10.0


def task_processes(folder: Path) -> list[int]:
    """Processes of tasks of a Nomad client whose data is in a folder: their command line or environment says so."""
    return processes_with(f"{folder}/client/alloc/", environment=True)


def log_collectors(folder: Path) -> list[int]:
    """What a Nomad agent, killed or stopped while tasks wrote, leaves beside them; it works in the agent's folder."""
    found = []
    for pid in processes_with("nomad logmon"):
        with suppress(OSError):
            if Path(os.readlink(f"/proc/{pid}/cwd")) == folder:
                found.append(pid)
    return found


def processes_with(mark: str, environment: bool = False) -> list[int]:
    """Live processes, but not this one, whose command line (or environment) holds a text."""
    wanted, found = mark.encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            told = (process / "cmdline").read_bytes().replace(b"\0", b" ")
            if environment and wanted not in told:
                told = (process / "environ").read_bytes()
        except OSError:
            continue
        if state not in "ZX" and wanted in told and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def kill(pids: Iterable[int]) -> None:
    """SIGKILL processes, and wait until they are gone."""
    left = list(pids)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    end = time.monotonic() + _GONE_S
    while any(_lives(pid) for pid in left) and time.monotonic() < end:
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def mounts_below(folder: Path) -> list[str]:
    """Mount points below a folder, innermost first; without root there are none."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)


def unmount(folder: Path) -> None:
    """Take away mounts below a folder, innermost first."""
    for point in mounts_below(folder):
        subprocess.run(["umount", point], check=False, capture_output=True)
    for point in mounts_below(folder):  # still used by a process that is about to be gone
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


def remove_cgroups(name: str) -> None:
    """Remove the control groups that a Nomad client made below a name of its own."""
    for root in (_CGROUPS, *_CGROUPS.glob("*/")):
        for top in (root / name, root / f"{name}.slice"):
            if top.is_dir():
                for folder, _, _ in os.walk(top, topdown=False):
                    with suppress(OSError):
                        os.rmdir(folder)
