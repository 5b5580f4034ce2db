"""A version goes from staging into production, on the S3, Consul and Vault of a whole dev cluster."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select
from rdv.ids import short_id
from rdv.records import Version, decode, encode, version_key
from rdv.settings import load_project

pytestmark = pytest.mark.live
MODEL = "visit/m"
FROM = ("--from", "staging")


class Way:
    """A project with its own corner of both environments. staging: where it trains; its commands."""

    def __init__(self, towns: Any, cluster: Any, folder: Path, shared: bool = False) -> None:
        """shared: both keep their artifacts in staging's bucket."""
        folder.mkdir()
        name, places = f"t{short_id()}", cluster.environments()
        mine = {env: corner(places[env], name) for env in ("staging", "production")}
        if shared:
            mine["production"]["artifacts"] = mine["staging"]["artifacts"]
        self.staging = towns.Town(folder, mine["staging"], cluster.servers.nomads["batch"], "staging")
        production = "".join(f'{port} = "{place}"\n' for port, place in mine["production"].items())
        with folder.joinpath("rdv.toml").open("a") as file:
            file.write(f"[environments.production]\n{production}")
        self.project = load_project(folder, "production")
        self.registry, self.store = select.registry(self.project), select.artifacts(self.project)

    def deploy(self, *arguments: str, code: int = 0) -> Any:
        """Bring a version into production and release it."""
        return self.staging.ended(self.start(*arguments), code)

    def start(self, *arguments: str) -> Any:
        """Begin to do so."""
        self.staging.env = "production"
        try:
            return self.staging.start("deploy", MODEL, *FROM, "--timeout", "0", "-o", "json", *arguments)
        finally:
            self.staging.env = "staging"

    def train(self, offset: float) -> str:
        """A version in staging; its name."""
        return str(self.staging.rdv("train", MODEL, "-P", f"offset={offset}", "-o", "json")["version"])

    def record(self, version: str) -> Version:
        """A version's record in production."""
        key = version_key(MODEL, version)
        entry = self.registry.get(key)
        assert entry is not None
        return decode(Version, entry.value, key)


@pytest.fixture
def nobodys_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without tokens of the caller's."""
    for name in ("NOMAD_TOKEN", "CONSUL_HTTP_TOKEN", "VAULT_TOKEN", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def way(dev_cluster: Any, towns: Any, tmp_path: Path, nobodys_tokens: None) -> Way:
    """A project in staging and production."""
    return Way(towns, dev_cluster, tmp_path / "project")


@pytest.fixture
def shared(dev_cluster: Any, towns: Any, tmp_path: Path, nobodys_tokens: None) -> Way:
    """The same, with one bucket for both."""
    return Way(towns, dev_cluster, tmp_path / "project", shared=True)


def test_what_staging_serves_goes_to_production(way: Way) -> None:
    """From bucket to bucket, key to key: the same bytes, a record that says whence, and the release; then another."""
    first = way.train(2.0)
    assert "staging serves no version" in way.deploy(code=3)
    way.staging.rdv("deploy", MODEL, "--timeout", "0")
    second = way.train(1.0)  # published and not served, so it stays where it is for now
    assert way.deploy()["version"] == first
    record = way.record(first)
    assert record.came_from == "staging"
    assert way.store.verify(record.artifact) == []
    there = select.artifacts(load_project(way.project.folder, "staging"))
    assert way.store.manifest(record.artifact) == there.manifest(record.artifact)
    assert [one for one in way.store.names() if "visit" in one] == [record.artifact]
    assert way.deploy()["serial"] == 1
    assert way.deploy("--version", second)["instead_of"] == first


def test_killed_on_its_way_it_goes_on(way: Way) -> None:
    """Killed when its first file is in production's bucket, and when the artifact is, the same command ends it."""
    version = way.train(2.0)
    for suffix in ("model.json", "manifest.json"):
        process = way.start("--version", version)
        while process.poll() is None and not any(key.endswith(suffix) for key in keys(way)):
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert way.deploy("--version", version)["serial"] == 1
    assert way.store.verify(way.record(version).artifact) == []
    assert sum(key.endswith("model.json") for key in keys(way)) == 1
    assert way.store.orphans() == []


def test_what_is_another_there_stays(way: Way) -> None:
    """A version of the same name with other bytes in production ends with 8, one that is damaged in staging with 1."""
    version = way.train(2.0)
    other = Version(model=MODEL, version=version, artifact="a", digest="d")
    way.registry.put(version_key(MODEL, version), encode(other))
    assert "is another artifact in production" in way.deploy("--version", version, code=8)
    assert way.record(version).digest == "d"
    second = way.train(1.0)
    registry = select.registry(load_project(way.project.folder, "staging"))
    key = version_key(MODEL, second)
    entry = registry.get(key)
    assert entry is not None
    told = decode(Version, entry.value, key)
    registry.put(key, entry.value.replace(told.digest.encode(), b"0" * 64), expect=entry.index)
    assert "names the digest" in way.deploy("--version", second, code=1)
    assert way.registry.get(key) is None


def test_collecting_in_staging_leaves_what_production_serves(shared: Way) -> None:
    """With one bucket for both, staging's garbage is only its record of a version that production has."""
    first, second = shared.train(2.0), shared.train(1.0)
    assert shared.deploy("--version", first)["version"] == first
    shared.staging.rdv("deploy", MODEL, "--version", second, "--timeout", "0")
    collect = ("artifacts", "gc", "--older-than", "0", "--yes", "-o", "json")
    told = {one["artifact"]: one["what"] for one in shared.staging.rdv(*collect)}
    artifact = shared.record(first).artifact
    assert told[artifact] == f"record of version {first}"
    assert [one["version"] for one in shared.staging.rdv("models", "list", MODEL, "-o", "json")] == [second]
    assert shared.store.verify(artifact) == []
    assert shared.staging.rdv(*collect) == []


def corner(places: dict[str, str], name: str) -> dict[str, str]:
    """An environment's places, with a prefix of their own in bucket and registry; steps run on this machine."""
    found = {**places, "cluster": "local:"}
    for port in ("artifacts", "registry"):
        place, query = found[port].partition("?")[::2]
        found[port] = f"{place}/{name}?{query}"
    return found


def keys(way: Way) -> list[str]:
    """What production's store holds."""
    return list(select.blobs(way.project).keys(""))
