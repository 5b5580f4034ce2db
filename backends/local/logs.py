"""A step's log while it grows, from any process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from rdv.errors import Unreachable
from rdv.folder_watch import FolderWatch

_CHUNK_BYTES = 65536
_LOOK_S = 1.0
"""How often the end is looked for when nothing is written: a dispatcher that is killed writes no outcome."""
_NO_WATCH_S = 0.2
"""The same where the user's inotify instances, 128 by default, are used up."""


def chunks(folder: Path, ended: Callable[[], bool] | None) -> Iterator[bytes]:
    """What is in the log of a step's folder; with `ended`, also what comes, until that is true and all is read."""
    with ExitStack() as stack:
        watch: FolderWatch | None = None
        if ended is not None:
            with suppress(Unreachable):
                watch = stack.enter_context(FolderWatch(folder, growth=True))
        file: BinaryIO | None = None
        while True:
            over = ended is None or ended()  # asked before the read, so that what precedes the end is read after it
            if file is None:
                with suppress(FileNotFoundError):
                    file = stack.enter_context(folder.joinpath("log").open("rb"))
            while file is not None and (chunk := file.read(_CHUNK_BYTES)):
                yield chunk
            if over:
                return
            if watch is not None:
                watch.wait(_LOOK_S)
            else:
                time.sleep(_NO_WATCH_S)
