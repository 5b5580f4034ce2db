"""A version goes from one environment to another byte for byte, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rdv.backends.artifacts import ArtifactStore, file_entries
from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.ports import Entry
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import SystemClock
from rdv.errors import CorruptArtifact, LostRace
from rdv.manifest import Manifest
from rdv.records import Version, decode, version_key
from rdv.releases.transfer import Brought, Side, transfer

NAME = "train/churn/m/day.2026-11-26/x-0123"
KEY = version_key("churn/m", "v1")
CALLS = 16


class Killed(BaseException):
    """The end of a process, as seen from within."""


@dataclass
class Moment:
    """Does something at a write: before the call of that number when even, after it when odd; counts writes."""

    at: int = -1
    do: Callable[[], object] = lambda: None
    calls: int = 0
    written: list[str] = field(default_factory=list)

    def around(self, what: str, write: Callable[[], object]) -> object:
        """Carry out a write."""
        self._now()
        made = write()
        self.written.append(what)
        self._now()
        return made

    def _now(self) -> None:
        self.calls += 1
        if self.calls - 1 == self.at:
            self.do()


class WatchedBlobs(DirBlobs):
    """A folder whose writes are moments, and which nothing may be removed from."""

    def __init__(self, folder: Path, moment: Moment) -> None:
        super().__init__(folder)
        self._moment = moment

    def put(self, key: str, source: Path) -> None:
        """Store a file."""
        self._moment.around(key, lambda: super(WatchedBlobs, self).put(key, source))

    def create(self, key: str, data: bytes) -> None:
        """Store bytes."""
        self._moment.around(key, lambda: super(WatchedBlobs, self).create(key, data))

    def delete(self, key: str) -> None:
        """Nothing of a transfer removes anything."""
        raise AssertionError(key)


class WatchedRegistry(SqliteRegistry):
    """A registry whose writes are moments."""

    def __init__(self, file: Path, moment: Moment) -> None:
        super().__init__(file)
        self._moment = moment

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        """Write a value."""
        made = self._moment.around(key, lambda: super(WatchedRegistry, self).put(key, value, expect))
        assert isinstance(made, Entry)
        return made


@dataclass
class Two:
    """Two environments' stores, and the registry of the second."""

    folder: Path
    moment: Moment
    source: ArtifactStore
    target: ArtifactStore
    registry: SqliteRegistry

    def make(self, text: str = "model", store: ArtifactStore | None = None, files: int = 1, tried: str = "") -> Version:
        """An artifact with a version that names it."""
        folder = self.folder / f"files-{text}"
        (folder / "below").mkdir(parents=True, exist_ok=True)
        for number in range(files):
            (folder / f"below/{number}.txt").write_text(text * number + text)
        manifest = Manifest(
            name=NAME, kind="model", attempt=tried or f"a-{text}", files=file_entries(folder), task="t:T"
        )
        (store or self.source).publish(manifest, folder)
        return Version(model="churn/m", version="v1", artifact=NAME, digest=manifest.digest(), run="r1")

    def bring(self, version: Version) -> Brought:
        """Transfer it."""
        source, target = Side("staging", self.source), Side("production", self.target)
        return transfer(version, source, target, self.registry, SystemClock())

    def record(self) -> Version | None:
        """The version's record in the second environment."""
        entry = self.registry.get(KEY)
        return None if entry is None else decode(Version, entry.value, KEY)

    def stands(self) -> None:
        """Whatever has happened, a record has a whole artifact, and a manifest has its files."""
        if self.record() is not None:
            assert self.target.manifest(NAME) is not None
        if self.target.manifest(NAME) is not None:
            assert self.target.verify(NAME) == []


def make_two(folder: Path) -> Two:
    """Two environments in a folder."""
    moment = Moment()
    target = ArtifactStore(WatchedBlobs(folder / "target", moment))
    registry = WatchedRegistry(folder / "registry.sqlite", moment)
    return Two(folder, moment, ArtifactStore(DirBlobs(folder / "source")), target, registry)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Two environments."""
    made = make_two(tmp_path)
    yield made
    made.registry.close()


def test_a_version_arrives_whole(two: Two) -> None:
    """The other store has the same manifest and bytes, the registry the same record with where it came from."""
    version = two.make(files=3)
    done = two.bring(version)
    assert (done.copied, done.there, done.registered) == (3, 0, True)
    assert two.target.verify(NAME) == []
    assert two.target.manifest(NAME) == two.source.manifest(NAME)
    record = two.record()
    assert record is not None
    assert (record.came_from, record.run) == ("staging", "r1")
    assert record.brought.endswith("+00:00")
    assert replace(record, came_from="", brought="") == version


def test_a_second_time_changes_nothing(two: Two) -> None:
    """What is there already stays as it is, and the call says so."""
    version = two.make()
    two.bring(version)
    before = two.record()
    done = two.bring(version)
    assert (done.copied, done.there, done.registered) == (0, 1, False)
    assert two.record() == before


def test_what_was_trained_in_both_is_not_copied(two: Two) -> None:
    """The same bytes under the same name, by another attempt, are taken for what they are."""
    version = two.make()
    two.make(store=two.target, tried="b")
    done = two.bring(version)
    assert (done.copied, done.registered) == (0, True)


@settings(max_examples=40, deadline=None)
@given(files=st.integers(1, 3), kills=st.lists(st.integers(0, CALLS), max_size=3))
def test_wherever_it_is_killed_it_goes_on(files: int, kills: list[int]) -> None:
    """Killed before or after any write, again and again, the same call ends it; nothing is written twice or removed."""
    with tempfile.TemporaryDirectory() as folder:
        two = make_two(Path(folder))
        version = two.make(files=files)
        two.moment.do = killed
        for at in kills:
            two.moment.at = two.moment.calls + at
            with suppress(Killed):
                two.bring(version)
            two.stands()
        two.moment.at = -1
        two.bring(version)
        two.stands()
        assert two.record() is not None
        assert sorted(two.moment.written) == sorted(set(two.moment.written))
        assert len(two.moment.written) == files + 2
        two.registry.close()


@settings(max_examples=20, deadline=None)
@given(files=st.integers(1, 3), at=st.integers(0, CALLS))
def test_two_at_once_end_as_one(files: int, at: int) -> None:
    """Another transfer of the same version, whole, between any two writes of the first: both end well."""
    with tempfile.TemporaryDirectory() as folder:
        two = make_two(Path(folder))
        version = two.make(files=files)
        two.moment.at, two.moment.do = at, lambda: two.bring(version)
        two.bring(version)
        two.stands()
        assert two.record() is not None
        two.registry.close()


@pytest.mark.parametrize("at", range(8))
def test_who_takes_the_name_meanwhile_keeps_it(two: Two, at: int) -> None:
    """An artifact of other bytes that appears between two writes stays, and is told, unless ours was there before."""
    version = two.make(files=2)

    def take() -> None:
        with suppress(LostRace):
            two.make("other", ArtifactStore(DirBlobs(two.folder / "target")))

    two.moment.at, two.moment.do = at, take
    if at < 5:
        with pytest.raises(LostRace, match="another one in production"):
            two.bring(version)
        assert two.record() is None
    else:
        two.bring(version)
        assert two.record() is not None
    two.stands()


def test_damaged_bytes_do_not_arrive(two: Two) -> None:
    """A file that is not what the manifest names is told, and neither artifact nor version exists there."""
    version = two.make()
    damage(two.folder / "source")
    with pytest.raises(CorruptArtifact, match="another SHA-256 than its manifest says, in staging"):
        two.bring(version)
    assert two.target.manifest(NAME) is None
    assert two.record() is None


def test_what_was_damaged_there_is_not_published(two: Two) -> None:
    """A file that a killed transfer has left, damaged since, is told; the manifest is not written over it."""
    version = two.make(files=2)
    two.moment.at, two.moment.do = 1, killed
    with pytest.raises(Killed):
        two.bring(version)
    damage(two.folder / "target")
    with pytest.raises(CorruptArtifact, match="not whole in production"):
        two.bring(version)
    assert two.target.manifest(NAME) is None
    assert two.record() is None


def test_a_file_that_is_gone_there_comes_again(two: Two) -> None:
    """An artifact that lacks a file in the other environment is made whole."""
    version = two.make(files=2)
    two.bring(version)
    next((two.folder / "target").rglob("1.txt")).unlink()
    done = two.bring(version)
    assert (done.copied, done.there) == (1, 1)
    assert two.target.verify(NAME) == []


def test_a_record_with_another_digest_is_refused(two: Two) -> None:
    """A version whose digest is not its artifact's goes nowhere."""
    version = replace(two.make(), digest="0" * 64)
    with pytest.raises(CorruptArtifact, match="digest"):
        two.bring(version)
    assert two.target.manifest(NAME) is None


def test_a_name_that_is_taken_is_refused(two: Two) -> None:
    """An artifact of that name with other bytes there stays, and is told; so does a version."""
    version = two.make()
    two.make("other", two.target)
    with pytest.raises(LostRace, match="another one in production"):
        two.bring(version)
    assert two.record() is None


def test_a_version_that_is_another_is_refused(two: Two) -> None:
    """A version of that name with another artifact there stays, and is told."""
    version = two.make()
    two.bring(version)
    two.registry.delete(KEY)
    two.registry.put(KEY, b'{"model":"churn/m","version":"v1","artifact":"x","digest":"d"}')
    with pytest.raises(LostRace, match="another artifact in production"):
        two.bring(version)


def killed() -> None:
    """End here."""
    raise Killed


def damage(folder: Path) -> None:
    """Change a byte of a stored file."""
    file = next(folder.rglob("0.txt"))
    file.chmod(0o644)
    file.write_bytes(b"x" + file.read_bytes()[1:])
