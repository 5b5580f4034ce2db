"""Being told of changes in a folder, and blocking work beside a loop."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.errors import Unreachable
from rdv.folder_watch import FolderWatch
from rdv.serving.follow import follow
from rdv.threads import in_daemon_thread

HANG_S = 20.0


def test_appearing_changing_and_going_files_are_told(tmp_path: Path) -> None:
    """Each kind of change wakes a waiting watcher; with none it waits out its time."""
    with FolderWatch(tmp_path) as watch:
        assert not watch.wait(0.0)
        file = tmp_path / "file"
        for change in (file.touch, lambda: file.write_text("x"), lambda: file.rename(tmp_path / "other")):
            change()
            assert watch.wait(HANG_S)
        (tmp_path / "other").unlink()
        assert watch.wait(HANG_S)
        assert not watch.drain()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Watching nothing ends in an error that names it, and leaves no descriptor."""
    with pytest.raises(Unreachable, match="gone"):
        FolderWatch(tmp_path / "gone")


def test_work_in_a_thread_returns_and_raises_in_the_loop() -> None:
    """What the work returns or raises arrives where it was awaited, while the loop goes on."""

    async def main() -> None:
        assert await in_daemon_thread("sum", lambda: 1 + 1) == 2
        with pytest.raises(ZeroDivisionError):
            await in_daemon_thread("wrong", lambda: 1 / 0)

    asyncio.run(main())


def test_work_that_is_no_longer_awaited_does_not_hold_up_the_end() -> None:
    """A loop can end while a thread still works for it; the thread ends by itself, without noise."""
    gate, done = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(HANG_S)
        done.set()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await in_daemon_thread("slow", work)

    asyncio.run(main())
    gate.set()
    assert done.wait(HANG_S)


def test_a_key_is_followed_through_changes_and_failures(tmp_path: Path) -> None:
    """A follower hears the value now and after each change, hears of a registry that is away, and goes on after it."""
    registry = SqliteRegistry(tmp_path / "registry.sqlite")
    told: list[bytes | None] = []
    failed: list[Exception] = []
    wanted = threading.Event()
    wanted.set()
    thread = follow(
        registry, "key", lambda entry: told.append(entry.value if entry else None), failed.append, wanted.is_set
    )

    def wait(true) -> None:
        until = time.monotonic() + HANG_S
        while not true():
            assert time.monotonic() < until
            time.sleep(0.005)

    wait(lambda: told == [None])
    registry.put("key", b"one")
    wait(lambda: told[-1] == b"one")
    (tmp_path / "registry.sqlite").rename(tmp_path / "away")
    wait(lambda: failed)
    (tmp_path / "away").rename(tmp_path / "registry.sqlite")
    SqliteRegistry(tmp_path / "registry.sqlite").put("key", b"two")
    wait(lambda: told[-1] == b"two")
    wanted.clear()
    thread.join(HANG_S)
    assert not thread.is_alive()
