"""Files that exist whole or not at all, and are still there after a power cut.

Everything is written to a scratch file, made durable, and only then given its name. A scratch file is locked by
whoever writes it, so `sweep` can tell what a killed process left behind from what is being written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rdv.errors import LostRace
from rdv.ids import short_id

SCRATCH_PREFIX = ".tmp-"
_MODE = 0o644
# how often a folder may vanish between being made and being used before that is an error
_TRIES = 20


def create_file(path: Path, data: bytes, scratch: Path | None = None, mode: int = _MODE) -> None:
    """Make a file with these bytes, durably, if and only if nothing of that name exists; else LostRace.

    scratch: a folder of the same file system for the unfinished file (default: the file's own).
    """
    with _scratch_file(scratch or path.parent, mode) as (file, name):
        file.write(data)
        _publish(file, name, path)


def copy_file(source: Path, path: Path, scratch: Path | None = None, mode: int = _MODE) -> None:
    """The same with a copy of another file's bytes, in constant memory."""
    with source.open("rb") as bytes_in, _scratch_file(scratch or path.parent, mode) as (file, name):
        shutil.copyfileobj(bytes_in, file, 1 << 20)
        _publish(file, name, path)


def replace_file(path: Path, data: bytes, mode: int = _MODE, durable: bool = True) -> None:
    """Make a file have these bytes, durably; readers see the old content or the new, never a mixture.

    durable: without it nothing waits for the disk, and after a power cut the content may be anything.
    """
    with _scratch_file(path.parent, mode) as (file, name):
        file.write(data)
        _sync(file) if durable else file.flush()
        os.replace(name, path)
        if durable:
            sync_folder(path.parent)


def make_folders(path: Path) -> None:
    """Make a folder and the missing ones above it, durably; there already is fine."""
    if path.is_dir():
        return
    make_folders(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    at = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(at)
    finally:
        os.close(at)


def sweep(folder: Path) -> int:
    """Remove scratch files whose writers are gone; returns how many. A missing folder has none."""
    return sum(remove_leftover(folder / name) for name in leftovers(folder))


def leftovers(folder: Path) -> list[str]:
    """Names of the scratch files in a folder, those that are being written among them."""
    return [name for name in _names(folder) if name.startswith(SCRATCH_PREFIX)]


def remove_leftover(path: Path, remove: bool = True) -> bool:
    """Whether a scratch file is there whose writer is gone; it is removed unless that is only asked."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:
                path.unlink()
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


@contextmanager
def _scratch_file(folder: Path, mode: int) -> Iterator[tuple[BinaryIO, Path]]:
    file, name = _open_scratch(folder, mode)
    try:
        with file:
            yield file, name
    finally:
        name.unlink(missing_ok=True)


def _open_scratch(folder: Path, mode: int) -> tuple[BinaryIO, Path]:
    for left in range(_TRIES, 0, -1):
        name = folder / f"{SCRATCH_PREFIX}{short_id()}"
        try:
            make_folders(folder)
            file = os.fdopen(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode), "wb")
        except (FileExistsError, FileNotFoundError):
            if left == 1:
                raise
            continue
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file, name
        file.close()  # swept between being made and being locked
    raise OSError(f"no scratch file could be made in {folder}")


def _publish(file: BinaryIO, name: Path, path: Path) -> None:
    _sync(file)
    for left in range(_TRIES, 0, -1):
        try:
            make_folders(path.parent)
            os.link(name, path)
            sync_folder(path.parent)
            return
        except FileExistsError:
            raise LostRace(f"{path} exists already", "what is there stays") from None
        except FileNotFoundError:  # somebody removed the empty folder
            if left == 1:
                raise


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
