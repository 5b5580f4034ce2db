"""Locks that die with their holder: one lock file, a byte of it for every name.

Open-file-description locks belong to an open file, not to a thread or a descriptor: they last until the last process
that shares it (by fork, or handed over at an exec) has closed it or died, cost one descriptor for any number of locks,
and never need cleaning up. Linux, and file systems of this host.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from pathlib import Path

from rdv.files import make_folders

_FLOCK = "hhqqi4x"


class Locks:
    """Exclusive locks by name on one open file; another `Locks` on the same path is another holder."""

    def __init__(self, path: Path) -> None:
        make_folders(path.parent)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, name: str) -> bool:
        """Take a lock if nobody else holds it."""
        try:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, name)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self, name: str) -> None:
        """Give a lock back; not holding it is fine."""
        self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, name)

    def held_elsewhere(self, name: str) -> bool:
        """Whether another holder has the lock now; taking nothing."""
        answer = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, _range(fcntl.F_WRLCK, name))
        kind: int = struct.unpack(_FLOCK, answer)[0]
        return kind != fcntl.F_UNLCK

    def wait_until_free(self, name: str) -> None:
        """Block the calling thread until no other holder has the lock. Release it then: others wait too."""
        self._set(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK, name)

    def close(self) -> None:
        """Give every lock back, unless another process shares the open file."""
        os.close(self.fd)

    def _set(self, command: int, kind: int, name: str) -> None:
        fcntl.fcntl(self.fd, command, _range(kind, name))


def _range(kind: int, name: str) -> bytes:
    """A struct flock for one byte whose place is the name's hash: 62 bits, so that two names never meet in practice."""
    at = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 2
    return struct.pack(_FLOCK, kind, os.SEEK_SET, at, 1, 0)
