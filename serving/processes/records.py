"""What runs in a project, as each role process tells it: one small file a process in the run folder.

A record is written at every change of state and removed at a clean stop. One whose process is gone is no record.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import msgspec

from rdv.files import make_folders

SUFFIX = ".json"
_FOLDER = "roles"


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A version that a worker could not serve. at: epoch seconds of the last try; tries: how many there were."""

    version: str
    serial: int
    reason: str
    at: float
    tries: int


class RoleRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One role process. state: `starting`, `ready` or `stopping`. started: epoch seconds; born: the kernel's start time

    of the process, which tells it from a later one of the same pid. name: the model of a worker, else the role.
    details: what only this role knows (see `rdv.serving.status`).
    """

    role: str
    name: str
    replica: str
    pid: int
    born: int
    started: float
    state: str
    details: dict[str, object] = {}


def record_path(run_folder: Path, role: str, name: str, replica: str) -> Path:
    """Where a role process keeps its record."""
    stem = "-".join(quote(part, safe="") for part in (role, name, replica) if part)
    return run_folder / _FOLDER / f"{stem}{SUFFIX}"


def records_folder(run_folder: Path) -> Path:
    """The folder of all records, which exists afterwards."""
    make_folders(run_folder / _FOLDER)
    return run_folder / _FOLDER


def write_record(run_folder: Path, record: RoleRecord) -> None:
    """Make a record say this from now on."""
    # whole for every reader, but not made durable: it need not outlive the machine, and a worker has no time to wait
    path = record_path(run_folder, record.role, record.name, record.replica)
    unfinished = records_folder(run_folder) / f"{path.name}.{os.getpid()}"
    unfinished.write_bytes(msgspec.json.encode(record))
    os.replace(unfinished, path)


def remove_record(run_folder: Path, role: str, name: str, replica: str) -> None:
    """Take a record away; absent is fine."""
    record_path(run_folder, role, name, replica).unlink(missing_ok=True)


def sweep_records(run_folder: Path) -> None:
    """Remove the records of processes that are gone; only for whoever starts all of them."""
    alive = {record_path(run_folder, one.role, one.name, one.replica) for one in read_records(run_folder)}
    for path in records_folder(run_folder).iterdir():
        if path not in alive:
            path.unlink(missing_ok=True)


def read_records(run_folder: Path) -> list[RoleRecord]:
    """The records of all processes that live, by role, name and replica."""
    found = []
    folder = run_folder / _FOLDER
    for path in folder.glob(f"*{SUFFIX}") if folder.is_dir() else ():
        try:
            record = msgspec.json.decode(path.read_bytes(), type=RoleRecord)
        except (OSError, msgspec.MsgspecError):
            continue
        if born(record.pid) == record.born:
            found.append(record)
    return sorted(found, key=lambda one: (one.role, one.name, one.replica))


def born(pid: int = 0) -> int:
    """When a process (default: this one) was started, in the kernel's ticks since boot; 0 when there is none."""
    try:
        stat = Path("/proc", str(pid or os.getpid()), "stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])
