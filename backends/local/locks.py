"""Which step is alive, and which one holds a token: locks that die with dispatcher and fork server."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from rdv.errors import RdvError
from rdv.locks import Locks

_JOIN_S = 5.0
"""How long a token may be held before its holder has said for which step."""


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
