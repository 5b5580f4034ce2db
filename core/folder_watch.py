"""Being told when files in a folder appear, change or go: Linux inotify, which the standard library lacks."""

from __future__ import annotations

import ctypes
import os
import select
from pathlib import Path
from typing import Self

from rdv.errors import Unreachable

_MODIFIED = 0x2
_MODIFIED_CLOSED, _MOVED_FROM, _MOVED_TO, _CREATED, _DELETED, _ONLY_FOLDERS = 0x8, 0x40, 0x80, 0x100, 0x200, 0x1000000
_EVENTS = _MODIFIED_CLOSED | _MOVED_FROM | _MOVED_TO | _CREATED | _DELETED | _ONLY_FOLDERS
_READ_BYTES = 65536
_libc = ctypes.CDLL(None, use_errno=True)


class FolderWatch:
    """A descriptor that becomes readable when something in a folder changes. Changes are not told apart.

    It follows the folder that was there when it was made: look again now and then, in case that one was replaced.
    """

    def __init__(self, folder: Path, growth: bool = False) -> None:
        """growth: tell also of each write to a file that stays open. Unreachable when the folder cannot be watched."""
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise Unreachable(f"cannot watch {folder}: {os.strerror(ctypes.get_errno())}", "raise fs.inotify's limits")
        events = _EVENTS | _MODIFIED if growth else _EVENTS
        if _libc.inotify_add_watch(self._fd, os.fsencode(folder), events) < 0:
            reason = os.strerror(ctypes.get_errno())
            self.close()
            raise Unreachable(f"cannot watch {folder}: {reason}", "check that the folder exists")

    def fileno(self) -> int:
        """The descriptor, for an event loop; call `drain` when it is readable."""
        return self._fd

    def drain(self) -> bool:
        """Take in what was told since the last call; whether there was anything."""
        seen = False
        while True:
            try:
                os.read(self._fd, _READ_BYTES)
                seen = True
            except BlockingIOError:
                return seen

    def wait(self, timeout_s: float) -> bool:
        """Block until something changes, at most timeout_s >= 0; whether anything did."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll(timeout_s * 1000)
        return self.drain()

    def close(self) -> None:
        """Stop watching; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
