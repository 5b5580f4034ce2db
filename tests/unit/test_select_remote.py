"""Remote adapters are chosen by their scheme, and get what follows it as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rdv.backends import select
from rdv.config import Config, Environment, Project
from rdv.errors import ConfigError, NotFound


def project(folder: Path, **settings: str) -> Project:
    """A project with one environment."""
    return Project(folder, Config(environments={"local": Environment(**settings)}))


@pytest.mark.parametrize(
    ("port", "setting", "client", "name"),
    [
        ("artifacts", "s3:bucket/prefix?endpoint=http://127.0.0.1:1&region=r", "boto3", "ArtifactStore"),
        ("artifacts", "hdfs:/rdv?url=http://127.0.0.1:1", "hdfs", "ArtifactStore"),
        ("registry", "consul:rdv?address=http://127.0.0.1:1", "consul", "LoggedRegistry"),
        ("catalog", "consul:dev?address=http://127.0.0.1:1", "consul", "ConsulCatalog"),
        ("secrets", "vault:secret/app?address=http://127.0.0.1:1", "hvac", "VaultSecrets"),
        ("cluster", "nomad:calc?address=http://127.0.0.1:1", "nomad", "NomadCluster"),
    ],
)
def test_schemes_of_servers(
    tmp_path: Path, require: Callable[..., str], port: str, setting: str, client: str, name: str
) -> None:
    """Each scheme makes its adapter without a word to the server; a place that is none is a configuration error."""
    require(client)
    more: dict[str, tuple[object, ...]] = {"secrets": ({},), "cluster": (2,)}
    made = getattr(select, port)(project(tmp_path, **{port: setting}), *more.get(port, ()))
    assert type(made).__name__ == name
    with pytest.raises(ConfigError):
        getattr(select, port)(project(tmp_path, **{port: setting + "&unknown=1"}), *more.get(port, ()))


def test_secrets_are_embedded_by_default(tmp_path: Path) -> None:
    """Without a setting secrets come from the environment and from a file in the state folder."""
    secrets = select.secrets(project(tmp_path), {"RDV_SECRET_A_B": "1"})
    assert secrets.get("a/b") == "1"
    with pytest.raises(NotFound, match=str(tmp_path / ".rdv" / "secrets.toml")):
        secrets.get("a/c")
