"""Locks that die with their holder: one lock file, a byte of it for every token and for every live step.

Open-file-description locks belong to an open file, not to a thread or a descriptor: they last until the last process
that shares it has closed it or died, cost one descriptor for any number of locks, and never need cleaning up.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
from contextlib import suppress
from pathlib import Path

from rdv.errors import RdvError

_FLOCK = "hhqqi4x"
_JOIN_S = 5.0
"""How long a token may be held before its holder has said for which step."""


class Locks:
    """Exclusive locks by name on one open file; another `Locks` on the same path is another holder."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
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


class Tokens:
    """Which step holds a token: the lock says that one does, a small file which."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.locks = Locks(folder / "steps")
        self._own: dict[str, str] = {}

    def own(self, token: str) -> str:
        """The unfinished step of this dispatcher that holds a token; empty when none does."""
        return self._own.get(token, "")

    def take(self, token: str, step: str) -> str:
        """Take a token for a step: empty when that succeeded, else the live step that holds it."""
        until = time.monotonic() + _JOIN_S
        while not self.locks.take(f"token {token}"):
            with suppress(FileNotFoundError):
                owner = self._file(token).read_text()
                if owner and self.locks.held_elsewhere(live(owner)):
                    return owner
            if time.monotonic() > until:
                raise RdvError(f"the token of step {step} is held, and nobody says by which step", "see `rdv doctor`")
            time.sleep(0.001)  # its holder is about to write its name, or to let go
        self._file(token).write_text(step)
        self._own[token] = step
        return ""

    def release(self, token: str) -> None:
        """Let go of a token of this dispatcher."""
        del self._own[token]
        self._file(token).unlink(missing_ok=True)
        self.locks.release(f"token {token}")

    def _file(self, token: str) -> Path:
        return self._folder / f"{hashlib.sha256(token.encode()).hexdigest()[:32]}.step"


def live(step: str) -> str:
    """The name of the lock that is held for as long as somebody keeps a step alive."""
    return f"live {step}"


def _range(kind: int, name: str) -> bytes:
    """A struct flock for one byte whose place is the name's hash: 62 bits, so that two names never meet in practice."""
    at = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 2
    return struct.pack(_FLOCK, kind, os.SEEK_SET, at, 1, 0)
