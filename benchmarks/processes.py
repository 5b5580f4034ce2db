"""What Linux says about the processes of a server."""

from __future__ import annotations

from pathlib import Path


def parents() -> dict[int, int]:
    """Every process's parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended while we looked
    return found


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on, lowest id first."""
    parent_of, found = parents(), [pid]
    for one in found:
        found += sorted(child for child, parent in parent_of.items() if parent == one)
    return sorted(found[1:])


def command_line(pid: int) -> list[str]:
    """A process's arguments; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def resident_mb(pid: int) -> float:
    """A process's resident memory in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no resident memory")
