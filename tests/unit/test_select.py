"""Which adapter serves a port: by the environment's settings, with clear errors."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from rdv.backends import select
from rdv.backends.blobs_dir import DirBlobs
from rdv.config import Config, Environment, Project
from rdv.errors import ConfigError


def project(folder: Path, **settings: str) -> Project:
    """A project whose local environment has these settings."""
    return Project(folder, Config(environments={"local": Environment(**settings)}))


def test_the_local_environment_keeps_everything_in_its_state_folder(tmp_path: Path) -> None:
    """Without any setting, artifacts and registry are made below `.rdv` at their first use."""
    bare = Project(tmp_path, Config())
    registry = select.registry(bare)
    registry.put("k", b"1")
    registry.close()
    assert select.artifacts(bare).names() == set()
    assert (tmp_path / ".rdv" / "registry.sqlite").is_file()


def test_paths_are_relative_to_the_state_folder_or_absolute(tmp_path: Path) -> None:
    """A setting's path lies in the state folder unless it is absolute."""
    inside = select.artifacts(project(tmp_path, artifacts="dir:store"))
    outside = select.artifacts(project(tmp_path, artifacts=f"dir:{tmp_path}/elsewhere"))
    for store, at in ((inside, ".rdv/store"), (outside, "elsewhere")):
        blobs = store._blobs
        assert isinstance(blobs, DirBlobs)
        blobs.create("a/b", b"")
        assert (tmp_path / at / "a" / "b").is_file()


@pytest.mark.parametrize("setting", ["", "dir", "ftp:x", "/tmp/x", ":x"])
def test_an_unknown_scheme_lists_the_known_ones(tmp_path: Path, setting: str) -> None:
    """A setting without a known scheme names the key and what may stand there."""
    with pytest.raises(ConfigError, match=r"environments\.local\.artifacts.*known: dir:"):
        select.artifacts(project(tmp_path, artifacts=setting))


def test_a_scheme_without_its_path_is_refused(tmp_path: Path) -> None:
    """A scheme alone does not make a folder of that name."""
    with pytest.raises(ConfigError, match="names no path"):
        select.registry(project(tmp_path, registry="sqlite:"))


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter whose library is not installed says which extra of rdv installs it."""
    table = {"registry": {"other": select.Adapter("rdv_no_such_library:Registry", "cluster")}}
    monkeypatch.setattr(select, "ADAPTERS", MappingProxyType(table))
    with pytest.raises(ConfigError, match=r"pip install 'rdv\[cluster\]'"):
        select.registry(project(tmp_path, registry="other:x"))
