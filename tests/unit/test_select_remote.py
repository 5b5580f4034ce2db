"""Remote adapters are chosen by their scheme, and get what follows it as it is."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from rdv.backends import select
from rdv.breaker import BOOK
from rdv.config import Config, Environment, Project
from rdv.errors import ConfigError, NotFound, Unreachable


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
        ("secrets", "vault:secret/app?address=http://127.0.0.1:1", "hvac", "GuardedSecrets"),
        ("cluster", "nomad:calc?address=http://127.0.0.1:1&driver=exec", "nomad", "NomadCluster"),
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


def test_a_server_that_is_away_is_soon_left_alone(tmp_path: Path, require: Callable[..., str]) -> None:
    """All registries of one environment in a process learn from each other that nobody listens, and why is told."""
    require("consul")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    BOOK.renew()
    made = [select.registry(project(tmp_path, registry=f"consul:rdv?address=http://127.0.0.1:{port}")) for _ in "ab"]
    told = []
    for at in range(8):
        with pytest.raises(Unreachable) as caught:
            made[at % 2].get("k")
        told.append(str(caught.value))
    assert not any("left alone" in one for one in told[:5])
    assert all("left alone" in one and "does not answer" in one for one in told[5:])
    assert [(one["name"], one["state"], one["refused"]) for one in BOOK.views()] == [("registry of local", "open", 3)]
    BOOK.renew()
