"""A model's pointer as a file that somebody else keeps, such as Nomad's template of the key in Consul.

The file holds the registry's bytes, or nothing when there is no pointer. It is read at the start and, where it is said
to be followed, whenever the process gets SIGHUP.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rdv.backends.ports import Entry

_log = logging.getLogger("rdv.worker")


@dataclass(frozen=True, slots=True)
class PointerFile:
    """Where it is, and whether a signal tells of changes; else it is read once, at the start."""

    path: Path
    signals: bool = True

    def follow(self, told: Callable[[Entry | None], None]) -> None:
        """Call `told` with what it says now, and after every signal; needs a running loop, in the main thread."""
        if self.signals:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._tell, told)
        self._tell(told)

    def _tell(self, told: Callable[[Entry | None], None]) -> None:
        try:
            data = self.path.read_bytes().strip()
        except OSError as error:
            _log.warning("the pointer cannot be read: %s: %s", self.path.name, error.strerror)
            return
        told(Entry(data, 1) if data else None)
