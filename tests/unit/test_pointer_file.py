"""A pointer in a file that somebody else writes: read, followed, and never half."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from rdv.backends.ports import Entry
from rdv.serving.worker.pointer_file import PointerFile

HANG_S = 30.0


def write(file: Path, text: str) -> None:
    """Replace a file at once, as Nomad's template does."""
    beside = file.with_name(".beside")
    beside.write_text(text)
    os.replace(beside, file)


async def seen_of(file: Path, moves: list[str]) -> list[bytes]:
    """What a follower was told, each move being made once the one before was told."""
    told: asyncio.Queue[Entry | None] = asyncio.Queue()
    follower = asyncio.ensure_future(PointerFile(file).follow(told.put_nowait))
    found = []
    try:
        async with asyncio.timeout(HANG_S):
            for move in [*moves, ""]:
                entry = await told.get()
                found.append(entry.value if entry is not None else b"")
                write(file, move)
    finally:
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower
    return found


def test_every_change_is_told_once(tmp_path: Path) -> None:
    """A follower is told what is there, then each thing that the file says, and nothing for an empty one."""
    file = tmp_path / "pointer"
    file.write_text(" one\n")
    assert asyncio.run(seen_of(file, ["two", "", "three"])) == [b"one", b"two", b"", b"three"]


def test_the_same_again_is_no_news(tmp_path: Path) -> None:
    """Files beside it, and the same text once more, tell nobody anything; what comes after them is told."""
    file = tmp_path / "pointer"
    file.write_text("one")

    async def run() -> list[Entry | None]:
        told: asyncio.Queue[Entry | None] = asyncio.Queue()
        async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
            follower = group.create_task(PointerFile(file).follow(told.put_nowait))
            found = [await told.get()]
            tmp_path.joinpath("other").write_text("x")
            write(file, "one")
            await asyncio.sleep(0)
            write(file, "two")
            found.append(await told.get())
            follower.cancel()
        return found

    assert asyncio.run(run()) == [Entry(b"one", 1), Entry(b"two", 1)]


def test_one_that_is_not_followed_is_read_once(tmp_path: Path) -> None:
    """Whoever only looks is told what is there; nothing when there is no file."""
    file, told = tmp_path / "pointer", list[Entry | None]()
    PointerFile(file, followed=False).look(told.append)
    assert told == []
    file.write_text("one")
    PointerFile(file, followed=False).look(told.append)
    assert told == [Entry(b"one", 1)]
