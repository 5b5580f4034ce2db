"""A version goes from one environment to another byte for byte, or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from rdv.backends.artifacts import ArtifactStore, file_entries
from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.errors import CorruptArtifact, LostRace
from rdv.manifest import Manifest
from rdv.records import Version, decode, version_key
from rdv.releases.transfer import transfer

NAME = "train/churn/m/day.2026-11-26/x-0123"


@dataclass
class Two:
    """Two environments' stores, and the registry of the second."""

    folder: Path
    source: ArtifactStore
    target: ArtifactStore
    registry: SqliteRegistry

    def make(self, text: str = "model", store: ArtifactStore | None = None) -> Version:
        """An artifact of one file with a version that names it."""
        files = self.folder / f"files-{text}"
        (files / "below").mkdir(parents=True)
        (files / "below/model.txt").write_text(text)
        manifest = Manifest(name=NAME, kind="model", attempt=f"a-{text}", files=file_entries(files), task="t:T")
        (store or self.source).publish(manifest, files)
        return Version(model="churn/m", version="v1", artifact=NAME, digest=manifest.digest())


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Two environments."""
    registry = SqliteRegistry(tmp_path / "registry.sqlite")
    stores = (ArtifactStore(DirBlobs(tmp_path / name)) for name in ("source", "target"))
    yield Two(tmp_path, *stores, registry)
    registry.close()


def test_a_version_arrives_whole(two: Two) -> None:
    """Afterwards the other store has the same bytes under the same name, and the registry the same record."""
    version = two.make()
    assert transfer(version, two.source, two.target, two.registry) is True
    assert two.target.verify(NAME) == []
    manifest = two.target.manifest(NAME)
    assert manifest is not None
    assert manifest.digest() == version.digest
    entry = two.registry.get(version_key("churn/m", "v1"))
    assert entry is not None
    assert decode(Version, entry.value, "k") == version


def test_a_second_time_changes_nothing(two: Two) -> None:
    """What is there already stays as it is, and the call says so."""
    version = two.make()
    transfer(version, two.source, two.target, two.registry)
    assert transfer(version, two.source, two.target, two.registry) is False


def test_a_transfer_that_was_cut_off_is_finished(two: Two) -> None:
    """With the artifact there and the record missing, the same call writes the record."""
    version = two.make()
    transfer(version, two.source, two.target, two.registry)
    two.registry.delete(version_key("churn/m", "v1"))
    assert transfer(version, two.source, two.target, two.registry) is True


def test_damaged_bytes_do_not_arrive(two: Two) -> None:
    """A file that is not what the manifest names is told, and neither artifact nor version exists there."""
    version = two.make()
    (damaged,) = (two.folder / "source").rglob("model.txt")
    damaged.chmod(0o644)
    damaged.write_text("modem")
    with pytest.raises(CorruptArtifact):
        transfer(version, two.source, two.target, two.registry)
    assert two.target.manifest(NAME) is None
    assert two.registry.get(version_key("churn/m", "v1")) is None


def test_a_record_with_another_digest_is_refused(two: Two) -> None:
    """A version whose digest is not its artifact's goes nowhere."""
    version = replace(two.make(), digest="0" * 64)
    with pytest.raises(CorruptArtifact, match="digest"):
        transfer(version, two.source, two.target, two.registry)
    assert two.target.manifest(NAME) is None


def test_a_name_that_is_taken_is_refused(two: Two) -> None:
    """An artifact, or a version, of that name with other bytes there stays, and is told."""
    version = two.make()
    two.make("other", two.target)
    with pytest.raises(LostRace):
        transfer(version, two.source, two.target, two.registry)
    assert two.registry.get(version_key("churn/m", "v1")) is None
