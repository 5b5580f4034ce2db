"""Scratch folders of steps: what a killed step leaves is told apart from what a living one uses, and removed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rdv.files import SCRATCH_PREFIX
from rdv.ids import short_id

_TRIES = 20


@contextmanager
def scratch_folder(state: Path) -> Iterator[Path]:
    """A fresh folder below the project's state, removed at the end; locked while its process lives."""
    folder, lock = _locked_folder(state / "tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_scratch(state: Path) -> int:
    """Remove scratch folders whose processes are gone; returns how many."""
    removed = 0
    with suppress(FileNotFoundError):
        for name in os.listdir(state / "tmp"):
            if name.startswith(SCRATCH_PREFIX) and (lock := _lock(state / "tmp" / name)) is not None:
                shutil.rmtree(state / "tmp" / name, ignore_errors=True)
                os.close(lock)
                removed += 1
    return removed


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """A new folder and its lock; another one when a sweep was quicker than the lock."""
    for _ in range(_TRIES):
        folder = parent / f"{SCRATCH_PREFIX}{short_id()}"
        folder.mkdir(parents=True)
        lock = _lock(folder)
        if lock is not None:
            if folder.exists():
                return folder, lock
            os.close(lock)
    raise OSError(f"no scratch folder could be kept in {parent}")


def _lock(folder: Path) -> int | None:
    """The locked descriptor of a folder; None when it is gone or somebody else's."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
