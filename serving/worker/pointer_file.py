"""A model's pointer as a file that somebody else keeps, such as Nomad's template of the key in Consul.

The file holds the registry's bytes, or nothing when there is no pointer. It is read at the start and, where it is said
to be followed, whenever it is written anew: a file that is there before its reader needs nobody who can be told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rdv.backends.ports import Entry
from rdv.serving.folder_changes import FolderChanges

_log = logging.getLogger("rdv.worker")


@dataclass(frozen=True, slots=True)
class PointerFile:
    """Where it is, and whether it is followed; else it is read once, at the start."""

    path: Path
    followed: bool = True

    def look(self, told: Callable[[Entry | None], None], before: bytes | None = None) -> bytes | None:
        """What it says now, of which `told` is told unless it was said before; None when it cannot be read."""
        try:
            data = self.path.read_bytes().strip()
        except OSError as error:
            _log.warning("the pointer cannot be read: %s: %s", self.path.name, error.strerror)
            return None
        if data != before:
            told(Entry(data, 1) if data else None)
        return data

    async def follow(self, told: Callable[[Entry | None], None]) -> None:
        """Call `told` with what it says now, and whenever it says something else. Runs until cancelled."""
        with FolderChanges(self.path.parent) as changes:
            said = self.look(told)
            while True:
                await changes.wait()
                said = self.look(told, said)
