"""Which adapter serves a port: by the environment's settings, with clear errors."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from rdv.backends import select
from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.ports_services import Instance
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


def test_the_catalog_is_a_folder_of_what_is_running(tmp_path: Path) -> None:
    """Without a setting gateways are told in the run folder; a setting's path lies in the state folder."""
    told = Instance(id="a", host="h", port=1)
    for settings, at in (({}, ".rdv/run/catalog"), ({"catalog": "folder:elsewhere"}, ".rdv/elsewhere")):
        select.catalog(project(tmp_path, **settings)).announce("dev-shop-gateway", told, 60.0)
        assert (tmp_path / at / "dev-shop-gateway" / "a.json").is_file()


def test_gateways_have_the_name_of_their_environment_and_project(tmp_path: Path) -> None:
    """The name begins with what the place in Consul names, else the environment; a server wants a named project."""
    here, there = Environment(), Environment(catalog="consul:eu?address=http://h:1")
    bare = Environment(catalog="consul:?address=http://h:1")
    config = Config(project="shop", environments={"local": here, "prod": there, "bare": bare})
    names = [select.gateway_service(Project(tmp_path, config, env)) for env in ("local", "prod", "bare")]
    assert names == ["local-shop-gateway", "eu-shop-gateway", "bare-shop-gateway"]
    (tmp_path / "corner").mkdir()
    assert select.gateway_service(Project(tmp_path / "corner", Config())) == "local-corner-gateway"
    with pytest.raises(ConfigError, match="has no name"):
        select.gateway_service(Project(tmp_path, Config(environments={"prod": there}), "prod"))


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
