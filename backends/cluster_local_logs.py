"""A step's log while it grows, from any process."""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 65536
_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100
_LOOK_MS = 1000
"""How often the end is looked for when nothing is written: a dispatcher that is killed writes no outcome."""
_NO_INOTIFY_S = 0.2
_libc = ctypes.CDLL(None, use_errno=True)


class _Changes:
    """Waits for a change in a folder; without inotify (a user may have 128 of them) for a short time."""

    def __init__(self, folder: Path) -> None:
        self._fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
        if self._fd >= 0 and _libc.inotify_add_watch(self._fd, os.fsencode(folder), mask) < 0:
            self.close()

    def wait(self) -> None:
        if self._fd < 0:
            return time.sleep(_NO_INOTIFY_S)
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll(_LOOK_MS)
        with suppress(BlockingIOError):
            os.read(self._fd, _CHUNK_BYTES)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def chunks(folder: Path, ended: Callable[[], bool] | None) -> Iterator[bytes]:
    """What is in the log of a step's folder; with `ended`, also what comes, until that is true and all is read."""
    changes = _Changes(folder) if ended else None
    file: BinaryIO | None = None
    try:
        while True:
            over = ended is None or ended()  # asked before the read, so that what precedes the end is read after it
            if file is None:
                with suppress(FileNotFoundError):
                    file = folder.joinpath("log").open("rb")
            while file is not None and (chunk := file.read(_CHUNK_BYTES)):
                yield chunk
            if over or changes is None:
                return
            changes.wait()
    finally:
        if file is not None:
            file.close()
        if changes is not None:
            changes.close()
