"""A folder that a role looks into whenever something changes there, and now and then all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

from rdv.folder_watch import FolderWatch

RESCAN_S = 1.0
"""How long a change may go unseen when the folder itself was replaced."""


class FolderChanges:
    """Waits for changes of a folder, in a running loop; entering it begins to watch, so look first after that.

    Unreachable when the folder cannot be watched.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._changed = folder, asyncio.Event()

    def __enter__(self) -> Self:
        self._loop, self._watch = asyncio.get_running_loop(), FolderWatch(self._folder)
        self._loop.add_reader(self._watch.fileno(), self._told)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._watch.fileno())
        self._watch.close()

    async def wait(self) -> None:
        """Return when something has changed since the last call, RESCAN_S later at the latest."""
        try:
            async with asyncio.timeout(RESCAN_S):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def _told(self) -> None:
        self._watch.drain()
        self._changed.set()
