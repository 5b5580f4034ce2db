"""What only the SQLite registry has to promise: damaged, foreign, absent, locked and replaced files."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdv.backends import registry_sqlite
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import ManualClock
from rdv.errors import CorruptState, RdvError, TimedOut, Unreachable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the registry is."""
    return tmp_path / "registry.sqlite"


@pytest.fixture
def registry(path: Path) -> Iterator[SqliteRegistry]:
    """A registry with one key."""
    made = SqliteRegistry(path)
    made.put("k", b"1")
    yield made
    made.close()


@pytest.mark.parametrize("data", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_told(path: Path, data: bytes) -> None:
    """A file that is no database is a clear error that names the file, for every call."""
    path.write_bytes(data)
    registry = SqliteRegistry(path)
    for call in (
        lambda: registry.get("k"),
        lambda: registry.put("k", b""),
        lambda: registry.list(""),
        lambda: registry.watch("k", 0, 1),
    ):
        with pytest.raises(CorruptState, match="registry.sqlite"):
            call()
    assert path.read_bytes() == data


def test_damage_inside_the_file_is_told(path: Path, registry: SqliteRegistry) -> None:
    """Overwritten pages are an error of the registry, not one of SQLite."""
    for at in range(200):
        registry.put(f"k{at}", os.urandom(500))
    registry.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(RdvError, match="registry.sqlite"):
        registry.list("")


def test_a_foreign_database_is_not_touched(path: Path) -> None:
    """An SQLite file of another program is refused and stays as it was."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(CorruptState, match="no registry"):
        SqliteRegistry(path).get("k")
    assert path.read_bytes() == before


def test_a_file_that_vanished_is_unreachable_until_it_is_back(path: Path, registry: SqliteRegistry) -> None:
    """A removed file is an error for whoever used it, never an empty registry; put back, it is used again."""
    registry.close()
    away = path.with_name("away")
    path.rename(away)
    for call in (lambda: registry.get("k"), lambda: registry.put("k", b""), lambda: registry.watch("k", 0, 1)):
        with pytest.raises(Unreachable, match="is gone"):
            call()
    assert not path.exists()
    away.rename(path)
    assert registry.get("k").value == b"1"


def test_a_watch_ends_when_the_file_vanishes(path: Path, registry: SqliteRegistry) -> None:
    """A watch under way says that the file is gone, or another one, instead of waiting on a deleted one."""
    for replace in (False, True):
        caught: list[Exception] = []
        index = registry.get("k").index

        def watch(index: int = index, caught: list = caught) -> None:
            try:
                registry.watch("k", index, 60)
            except Unreachable as error:
                caught.append(error)

        thread = threading.Thread(target=watch)
        thread.start()
        thread.join(0.05)
        path.rename(path.with_name("away"))
        if replace:
            path.with_name("other").write_bytes(b"")
            path.with_name("other").rename(path)
        thread.join(60)
        assert len(caught) == 1
        path.with_name("away").rename(path)


def test_a_file_made_anew_is_read_anew(path: Path, registry: SqliteRegistry) -> None:
    """When the file was removed and another process made a new one, what is read is the new one's."""
    for name in ("", "-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    other = SqliteRegistry(path)
    other.put("other", b"2")
    assert registry.get("k") is None
    assert registry.get("other").value == b"2"
    other.close()


def test_indexes_do_not_return_with_a_new_file(path: Path, registry: SqliteRegistry) -> None:
    """A registry that was made anew has greater indexes, so that no expectation of the old one fits by accident."""
    old = registry.get("k").index
    registry.close()
    path.unlink()
    fresh = SqliteRegistry(path)
    assert fresh.put("k", b"2").index > old
    fresh.close()


def test_indexes_grow_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    """A clock that is set back does not make indexes smaller."""
    clock = ManualClock()
    registry = SqliteRegistry(tmp_path / "r", clock)
    first = registry.put("k", b"").index
    clock.wall_s -= 1e6
    assert registry.put("k", b"").index > first
    registry.close()


def test_a_lock_that_is_never_given_up_ends_in_time_out(
    path: Path, registry: SqliteRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that finds the file locked for the whole busy time says so; readers are not held up."""
    monkeypatch.setattr(registry_sqlite, "BUSY_S", 0.1)
    registry.close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(TimedOut, match="locked"):
        registry.put("k", b"2")
    assert registry.get("k").value == b"1"
    holder.execute("ROLLBACK")
    holder.close()
    assert registry.put("k", b"2")


def test_a_path_that_can_never_be_a_file_is_told(tmp_path: Path) -> None:
    """A folder in the file's place, or a file in the folder's, is an error that names the path."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "folder", tmp_path / "file" / "registry"):
        with pytest.raises(RdvError, match=path.name):
            SqliteRegistry(path).get("k")


def test_reading_leaves_the_file_in_place_for_others(path: Path, registry: SqliteRegistry) -> None:
    """Closing one user of the file disturbs no other one."""
    other = SqliteRegistry(path)
    assert other.get("k") == registry.get("k")
    registry.close()
    assert other.put("k", b"2").index > 0
    other.close()
    assert registry.get("k").value == b"2"
