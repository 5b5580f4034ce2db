"""Scratch folders of steps: what a killed step leaves is told apart from what a living one uses, and removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rdv.files import SCRATCH_PREFIX
from rdv.ids import short_id

_LOCK = ".lock"
_UNLOCKED_S = 60.0


@contextmanager
def scratch_folder(state: Path) -> Iterator[Path]:
    """A fresh folder below the project's state, removed at the end; locked while its process lives."""
    folder = state / "tmp" / f"{SCRATCH_PREFIX}{short_id()}"
    folder.mkdir(parents=True)
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_scratch(state: Path) -> int:
    """Remove scratch folders whose processes are gone; returns how many."""
    removed = 0
    with suppress(FileNotFoundError):
        for name in os.listdir(state / "tmp"):
            if name.startswith(SCRATCH_PREFIX) and _is_left(state / "tmp" / name):
                shutil.rmtree(state / "tmp" / name, ignore_errors=True)
                removed += 1
    return removed


def _is_left(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # being made this very moment, or killed then: only age can tell
        with suppress(FileNotFoundError):
            return time.time() - folder.stat().st_mtime > _UNLOCKED_S
        return False
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
