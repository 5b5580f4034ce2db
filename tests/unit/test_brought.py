"""What a cluster has brought to a worker is used where it is what the manifest names, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from rdv.ids import digest_file
from rdv.manifest import FileEntry, Manifest
from rdv.serving.worker.brought import Brought


class Store:
    """A store that counts what is fetched from it."""

    def __init__(self, manifest: Manifest) -> None:
        self.known, self.fetched = manifest, 0

    def manifest(self, name: str) -> Manifest | None:
        return self.known if name == self.known.name else None

    def fetch(self, manifest: Manifest, path: str, into: Path) -> Path:
        self.fetched += 1
        into.write_bytes(b"model")
        return into


def test_a_brought_file_is_used_when_its_checksum_is_right(tmp_path: Path) -> None:
    """No folder, no file or another file: it is fetched; the right one: the store is not asked for it."""
    right = tmp_path / "right"
    right.write_bytes(b"model")
    digest = digest_file(right)
    manifest = Manifest(name="v/1", kind="model", task="t", created="", attempt="x", files=(FileEntry("m", 5, digest),))
    store = Store(manifest)
    folder, into = tmp_path / "fetched", tmp_path / "into"
    brought = Brought(folder, store)
    assert brought.manifest("v/1") == manifest
    assert brought.fetch(manifest, "m", into) == into
    folder.mkdir()
    assert brought.fetch(manifest, "m", into) == into
    for wrong in (b"mod", b"lemod"):
        folder.joinpath(digest).write_bytes(wrong)
        assert brought.fetch(manifest, "m", into) == into
    assert store.fetched == 4
    folder.joinpath(digest).write_bytes(b"model")
    assert brought.fetch(manifest, "m", into) == folder / digest
    assert store.fetched == 4
