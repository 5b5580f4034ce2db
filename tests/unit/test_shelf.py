"""Versions on a worker's own disk."""

import os
import threading
import time
from pathlib import Path

import pytest

from rdv.errors import ConfigError, CorruptArtifact
from rdv.ids import digest_file
from rdv.inputs import InputField, InputSpec
from rdv.manifest import FileEntry, Manifest, ModelInfo
from rdv.records import Version
from rdv.serving.worker.shelf import Good, Shelf


def made(folder: Path, name: str, content: str = "model") -> tuple[Version, Manifest, Path]:
    """A version with its manifest and its fetched file."""
    file = folder / f"{name}.fetched"
    file.write_text(content)
    entry = FileEntry("sub/model.txt", file.stat().st_size, digest_file(file))
    info = ModelInfo("sub/model.txt", "sum", "number", InputSpec((InputField("a"),)))
    manifest = Manifest(name=f"artifact-{name}", kind="model", attempt="a", files=(entry,), task="t", model=info)
    return Version(model="m", version=name, artifact=manifest.name, digest=manifest.digest()), manifest, file


def test_what_was_put_is_found(tmp_path: Path) -> None:
    """A version comes back with its manifest, and with a file of its own that has the right bytes."""
    shelf = Shelf(tmp_path / "shelf")
    version, manifest, file = made(tmp_path, "v1")
    put = shelf.put(version, manifest, file)
    file.unlink()
    found = shelf.find("v1")
    assert found == put
    assert found.file.read_text() == "model"
    assert shelf.find("v2") is None


@pytest.mark.parametrize("damaged", ["model", "manifest.json", "version.json"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_damage_is_found_and_mended(tmp_path: Path, damaged: str, how: str) -> None:
    """A version with a damaged or missing file is not there, and can be put again."""
    shelf = Shelf(tmp_path / "shelf")
    version, manifest, file = made(tmp_path, "v1")
    shelf.put(version, manifest, file)
    place = tmp_path / "shelf" / "v1" / damaged
    place.unlink()
    if how == "changed":
        place.write_text("madel")
    assert shelf.find("v1") is None
    shelf.put(version, manifest, file)
    assert shelf.find("v1") is not None


def test_a_file_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    """Bytes with another checksum are never kept as a version."""
    shelf = Shelf(tmp_path / "shelf")
    version, manifest, file = made(tmp_path, "v1")
    file.write_text("other")
    with pytest.raises(CorruptArtifact):
        shelf.put(version, manifest, file)
    assert shelf.find("v1") is None


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", ".hidden", "a\0b", "x" * 300])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    """A version name from the registry cannot become a path outside its own folder."""
    with pytest.raises(ConfigError):
        Shelf(tmp_path / "shelf").find(name)


def test_only_the_last_two_that_served_stay(tmp_path: Path) -> None:
    """What served, and what served before, stay on the disk; older ones go, young ones may be loads under way."""
    shelf = Shelf(tmp_path / "shelf")
    assert shelf.good() is None
    for name in ("v1", "v2", "v3", "young"):
        shelf.put(*made(tmp_path, name))
        if name != "young":
            shelf.mark_good(name)
            old = time.time() - 3600
            os.utime(tmp_path / "shelf" / name, (old, old))
    shelf.mark_good("v3")
    assert shelf.good() == Good("v3", "v2")
    assert [shelf.find(name) is not None for name in ("v1", "v2", "v3", "young")] == [False, True, True, True]
    (tmp_path / "shelf" / "good.json").write_text("{")
    assert shelf.good() is None


def test_replicas_may_put_the_same_version_at_once(tmp_path: Path) -> None:
    """Several replicas that fetch one version at the same time end with one sound copy and no error."""
    version, manifest, file = made(tmp_path, "v1", "x" * 100_000)
    errors: list[Exception] = []

    def put() -> None:
        try:
            Shelf(tmp_path / "shelf").put(version, manifest, file)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Shelf(tmp_path / "shelf").find("v1") is not None
