"""A store of immutable blobs in a directory."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rdv.backends.keys import check_key, check_prefix
from rdv.errors import LostRace, NotAuthorised, NotFound, RdvError, Unreachable, UsageError
from rdv.files import copy_file, create_file, leftovers, remove_leftover, sweep, sync_folder

# "%" is outside the alphabet of keys
SCRATCH = "%tmp"
_READ_ONLY = 0o444


class DirBlobs:
    """Blobs as read-only files below one folder, which is made at the first write.

    A key's file is the folder and the key; symbolic links below the folder are never followed.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root).resolve()
        self._swept = False

    def put(self, key: str, source: Path) -> None:
        """Store a copy of a file's bytes, durably; LostRace when the key is there."""
        path = self._at(key)
        with _translated(key), _create_only(key, path):
            copy_file(source, path, self._scratch(), _READ_ONLY)

    def create(self, key: str, data: bytes) -> None:
        """Store bytes, durably, if and only if the key is absent; else LostRace."""
        path = self._at(key)
        with _translated(key), _create_only(key, path):
            create_file(path, data, self._scratch(), _READ_ONLY)

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, None when absent."""
        path = self._at(key)
        with _translated(key):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def fetch(self, key: str, into: Path) -> Path:
        """The stored file itself; nothing is written to `into`. NotFound when absent."""
        path = self._at(key)
        with _translated(key):
            if _is_file(path):
                return path
        raise NotFound(f"the store has no {key}", "see `rdv artifacts list`")

    def keys(self, prefix: str, skip: str = "") -> Iterator[str]:
        """All keys that begin with a prefix, sorted; one walk over the folders that can hold them."""
        folder, _, beginning = check_prefix(prefix).rpartition("/")
        with _translated(prefix):
            top = self._at(folder) if folder else self._root
            return iter(sorted(_walk(top, folder and folder + "/", beginning, skip)))

    def delete(self, key: str) -> None:
        """Remove a key and the folders that it leaves empty; absent is fine."""
        path = self._at(key)
        with _translated(key):
            if _is_file(path):
                path.unlink(missing_ok=True)
                self._prune(path.parent)

    def unfinished(self, older_than_s: float) -> list[str]:
        """Scratch files of writers that are gone. Their locks tell; the next writer here removes them anyway."""
        scratch, before = self._root / SCRATCH, time.time() - older_than_s
        with _translated(SCRATCH):
            found = [name for name in leftovers(scratch) if remove_leftover(scratch / name, remove=False)]
            return sorted(name for name in found if _modified(scratch / name) <= before)

    def discard(self, unfinished: str) -> None:
        """Remove a scratch file, unless it is being written."""
        if unfinished not in leftovers(self._root / SCRATCH):
            return
        with _translated(SCRATCH):
            remove_leftover(self._root / SCRATCH / unfinished)

    def _at(self, key: str) -> Path:
        path = self._root / check_key(key)
        if os.path.realpath(path) != str(path):
            raise UsageError(f"{key} leads through a symbolic link in {self._root}", "remove the link")
        return path

    def _scratch(self) -> Path:
        scratch = self._root / SCRATCH
        if not self._swept:
            sweep(scratch)
            self._swept = True
        return scratch

    def _prune(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or already gone
                break
            folder = folder.parent
        with _ignore_missing():
            sync_folder(folder)


def _walk(folder: Path, before: str, beginning: str, skip: str) -> Iterator[str]:
    with _ignore_missing(), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(beginning) or (not before and entry.name == SCRATCH):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name != skip:
                    yield from _walk(folder / entry.name, f"{before}{entry.name}/", "", skip)
            elif entry.is_file(follow_symlinks=False):
                yield before + entry.name


def _modified(path: Path) -> float:
    with _ignore_missing():
        return path.stat().st_mtime
    return 0.0


def _is_file(path: Path) -> bool:
    with _ignore_missing():
        return stat.S_ISREG(path.lstat().st_mode)
    return False


@contextmanager
def _create_only(key: str, path: Path) -> Iterator[None]:
    try:
        yield
    except LostRace:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        raise LostRace(f"{key} is already in the store", "what is there stays") from None


@contextmanager
def _ignore_missing() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        return


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise NotAuthorised(f"{error.filename} may not be used", "check the permissions of the store") from error
    except (NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(f"{key} lies below another key, or another lies below it", "choose another name") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RdvError(f"no space left for {key} on the store's disk", "`rdv artifacts gc` frees some") from error
        raise Unreachable(f"the store failed on {key}: {error.strerror}", "check the disk") from error
