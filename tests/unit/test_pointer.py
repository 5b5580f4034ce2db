"""Releases: the pointer moves by check-and-set, every move has its row, and rollback goes back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.ports import Entry
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import ManualClock
from rdv.errors import ConfigError, LostRace, NotFound, Refused
from rdv.records import Pointer, Version, encode, pointer_key, release_key, version_key
from rdv.releases import pointer

MODEL = "churn/lightgbm"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[SqliteRegistry]:
    """A registry with the versions v1 to v3 of a model."""
    made = SqliteRegistry(tmp_path / "registry.sqlite")
    for version in ("v1", "v2", "v3"):
        value = Version(model=MODEL, version=version, artifact=f"a-{version}", digest="0" * 64)
        made.put(version_key(MODEL, version), encode(value), expect=0)
    yield made
    made.close()


class Crashing:
    """A registry whose user ends right after moving a pointer."""

    def __init__(self, registry: SqliteRegistry) -> None:
        self.get, self.list, self._put = registry.get, registry.list, registry.put

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        """Write, and end when it was a pointer."""
        entry = self._put(key, value, expect)
        if key == pointer_key(MODEL):
            raise KeyboardInterrupt
        return entry


@given(st.lists(st.sampled_from(["v1", "v2", "v3", "back"]), max_size=12))
def test_serials_count_the_moves_and_previous_is_what_was_served(moves: list[str]) -> None:
    """After any moves the serial is their number, and `previous` is the version that was served just before."""
    at: Pointer | None = None
    served: list[str] = []
    for move in moves:
        if move == "back":
            if len(served) < 2:
                continue
            at = pointer.rolled_back(at, MODEL)
        else:
            at = pointer.deployed(at, move)
        if not served or served[-1] != at.version:
            served.append(at.version)
    if at is not None:
        assert (at.version, at.serial) == (served[-1], len(served))
        assert at.previous == (served[-2] if len(served) > 1 else "")


def test_a_deploy_moves_the_pointer_and_leaves_a_row(registry: SqliteRegistry) -> None:
    """Two deploys and two rollbacks are four rows, and the second rollback returns."""
    clock = ManualClock()
    for version in ("v1", "v2"):
        pointer.deploy(registry, MODEL, version, "ann", clock)
    assert pointer.rollback(registry, MODEL, "bob", clock).version == "v1"
    assert pointer.rollback(registry, MODEL, "bob", clock).version == "v2"
    rows = pointer.history(registry, MODEL)
    assert [(row.serial, row.kind, row.version, row.previous, row.by) for row in rows] == [
        (1, "deploy", "v1", "", "ann"),
        (2, "deploy", "v2", "v1", "ann"),
        (3, "rollback", "v1", "v2", "bob"),
        (4, "rollback", "v2", "v1", "bob"),
    ]


def test_deploying_what_is_served_changes_nothing(registry: SqliteRegistry) -> None:
    """A second deploy of the same version returns the first move and writes no row."""
    first = pointer.deploy(registry, MODEL, "v1", "ann", ManualClock())
    assert pointer.deploy(registry, MODEL, "v1", "bob", ManualClock()) == first
    assert len(pointer.history(registry, MODEL)) == 1


def test_only_published_versions_are_released(registry: SqliteRegistry) -> None:
    """A version never published, a model never deployed and a first version have no way on or back."""
    with pytest.raises(NotFound, match="v9"):
        pointer.deploy(registry, MODEL, "v9", "ann", ManualClock())
    with pytest.raises(NotFound, match="ever deployed"):
        pointer.rollback(registry, MODEL, "ann", ManualClock())
    pointer.deploy(registry, MODEL, "v1", "ann", ManualClock())
    with pytest.raises(Refused, match="no other version than v1"):
        pointer.rollback(registry, MODEL, "ann", ManualClock())
    pointer.deploy(registry, MODEL, "v2", "ann", ManualClock())
    registry.delete(version_key(MODEL, "v1"))
    with pytest.raises(NotFound, match="v1"):
        pointer.rollback(registry, MODEL, "ann", ManualClock())


def test_versions_are_what_was_published(registry: SqliteRegistry) -> None:
    """All versions of a model are listed, of no other one, and a value under a foreign key is an error."""
    assert [one.version for one in pointer.versions(registry, MODEL)] == ["v1", "v2", "v3"]
    assert pointer.versions(registry, "churn/light") == []
    foreign = Version(model="other", version="v4", artifact="a", digest="0" * 64)
    registry.put(version_key(MODEL, "v4"), encode(foreign))
    with pytest.raises(ConfigError, match="holds v4 of other"):
        pointer.versions(registry, MODEL)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"version": 3}', b'{"version": "v1", "url": "http://x"}', b"\xff"])
def test_a_hostile_pointer_is_refused(registry: SqliteRegistry, value: bytes) -> None:
    """A pointer that is not one is an error that names its key, for reading and for moving."""
    registry.put(pointer_key(MODEL), value)
    for call in (
        lambda: pointer.current(registry, MODEL),
        lambda: pointer.deploy(registry, MODEL, "v1", "ann", ManualClock()),
        lambda: pointer.rollback(registry, MODEL, "ann", ManualClock()),
    ):
        with pytest.raises(ConfigError, match=pointer_key(MODEL)):
            call()
    assert registry.get(pointer_key(MODEL)).value == value


def test_a_lost_row_is_written_by_the_next_move(registry: SqliteRegistry) -> None:
    """A crash between pointer and log leaves a gap that history shows and the next move fills."""
    pointer.deploy(registry, MODEL, "v1", "ann", ManualClock())
    pointer.deploy(registry, MODEL, "v2", "ann", ManualClock())
    with pytest.raises(KeyboardInterrupt):
        pointer.rollback(Crashing(registry), MODEL, "bob", ManualClock())
    assert registry.get(release_key(MODEL, 3)) is None
    before = pointer.history(registry, MODEL)
    assert [(row.serial, row.kind, row.by) for row in before][1:] == [(2, "deploy", "ann"), (3, "rollback", "bob")]
    pointer.deploy(registry, MODEL, "v3", "ann", ManualClock())
    assert pointer.history(registry, MODEL)[:3] == before
    assert registry.get(release_key(MODEL, 3)) is not None


def test_of_racing_deployers_the_losers_are_told(registry: SqliteRegistry) -> None:
    """Whoever races, the log's rows are the pointer's moves one after the other, and a loser gets LostRace."""
    others = [SqliteRegistry(registry._path) for _ in range(4)]

    def attempt(at: int) -> bool:
        try:
            pointer.deploy(others[at % 4], MODEL, f"v{at % 3 + 1}", str(at), ManualClock())
        except LostRace:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(24)))
    for other in others:
        other.close()
    rows = pointer.history(registry, MODEL)
    assert any(won)
    assert [row.serial for row in rows] == list(range(1, len(rows) + 1))
    assert all(row.previous == before.version for before, row in zip(rows, rows[1:], strict=False))
    at = pointer.current(registry, MODEL)
    assert at is not None
    assert (at.version, at.serial) == (rows[-1].version, rows[-1].serial)
