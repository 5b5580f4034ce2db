"""The memory of a step's processes: held below its limit by a cgroup where one may be made, and measured from /proc.

Address space limits (RLIMIT_AS) are never used: they count what is reserved, not what is resident, and native
libraries reserve far more than they touch.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MARK = "rdv-"


@dataclass(frozen=True, slots=True)
class CgroupFiles:
    """What a version of the memory controller calls its files. swap: (file, limit that forbids swapping)."""

    limit: str
    swap: str
    swap_equals_limit: bool
    events: str
    kill: str


V1 = CgroupFiles("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", True, "memory.oom_control", "")
V2 = CgroupFiles("memory.max", "memory.swap.max", False, "memory.events", "cgroup.kill")


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A cgroup of one step."""

    folder: Path
    files: CgroupFiles

    def pids(self) -> list[int]:
        """The processes in it; none when it is gone."""
        try:
            return [int(line) for line in self.folder.joinpath("cgroup.procs").read_text().split()]
        except OSError:
            return []

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        with suppress(OSError):
            for line in self.folder.joinpath(self.files.events).read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return 0

    def remove(self) -> None:
        """Kill what is left in it and take it away; what cannot die yet is left to the next sweep."""
        until = time.monotonic() + 1.0
        while self.folder.exists():
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                self.folder.rmdir()
            except OSError:
                if time.monotonic() > until:
                    return
                time.sleep(0.001)


class MemoryGroups:
    """Makes cgroups below one that this process may write to. Each is named after its maker, so that a sweep by

    another process can tell what is left over from a dead one.
    """

    def __init__(self, base: Path, files: CgroupFiles) -> None:
        self._base, self._files, self._count = base, files, 0
        self._maker = f"{_MARK}{os.getpid()}-{start_ticks(os.getpid())}-"

    def make(self, limit_bytes: int) -> MemoryGroup:
        """A new cgroup with this limit and no swap; OSError when that may not be."""
        self._count += 1
        group = MemoryGroup(self._base / f"{self._maker}{self._count}", self._files)
        group.folder.mkdir()
        try:
            group.folder.joinpath(self._files.limit).write_text(str(limit_bytes))
        except OSError:
            group.remove()
            raise
        with suppress(OSError):  # a kernel without swap accounting has no such file
            swap = str(limit_bytes) if self._files.swap_equals_limit else "0"
            group.folder.joinpath(self._files.swap).write_text(swap)
        return group

    def sweep(self) -> None:
        """Kill and remove what fork servers that are gone have left behind."""
        for folder in self._base.glob(f"{_MARK}*-*-*"):
            pid, ticks, _ = (int(part) if part.isdigit() else 0 for part in folder.name.split("-")[1:4])
            if pid and start_ticks(pid) != ticks:
                MemoryGroup(folder, self._files).remove()


def cgroup_base(membership: str, mounts: str) -> tuple[Path, CgroupFiles] | None:
    """The folder of this process's own memory cgroup, from /proc/self/cgroup and /proc/self/mountinfo. Pure.

    Version 1 wins where the memory controller is mounted as such; None without either.
    """
    own: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    places: dict[str, tuple[str, str]] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind, options = before.split(), after.split()[0], after.split()[2].split(",")
        if kind == "cgroup" and "memory" in options:
            places.setdefault("memory", (fields[3], fields[4]))
        elif kind == "cgroup2":
            places.setdefault("", (fields[3], fields[4]))
    for controller, files in (("memory", V1), ("", V2)):
        if controller in own and controller in places:
            root, mounted = places[controller]
            below = os.path.relpath(own[controller], root)
            return Path(mounted, "" if below.startswith("..") else below), files
    return None


def memory_groups() -> MemoryGroups | None:
    """A maker of memory cgroups, tried out; None where this process may not make any."""
    try:
        found = cgroup_base(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
        if found is None:
            return None
        base, files = found
        if files is V2 and "memory" not in base.joinpath("cgroup.subtree_control").read_text().split():
            base.joinpath("cgroup.subtree_control").write_text("+memory")
        groups = MemoryGroups(base, files)
        groups.make(1 << 30).remove()
    except (OSError, ValueError):
        return None
    return groups


def start_ticks(pid: int) -> int:
    """When a process started, in the kernel's clock ticks; 0 when there is no such process, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def children(pid: int) -> list[int]:
    """The direct children of a process, whichever of its threads made them."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_bytes().split())
    return found


def family(pid: int, children_of: Callable[[int], list[int]] = children) -> Iterator[int]:
    """A process and all its descendants."""
    seen, todo = {pid}, [pid]
    while todo:
        one = todo.pop()
        yield one
        for child in children_of(one):
            if child not in seen:
                seen.add(child)
                todo.append(child)


def resident_bytes(pid: int) -> int:
    """The resident memory of a process, shared pages included; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
