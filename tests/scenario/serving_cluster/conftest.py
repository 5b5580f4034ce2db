"""What tests of serving jobs share: a project of its own in `dev` of the session's cluster, and load on its proxy."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from rdv.backends import select
from rdv.ids import short_id
from rdv.manifest import Manifest
from rdv.pipelines.step import now_text
from rdv.records import Version, decode, encode, version_key
from rdv.settings import load_project

MODEL = "visit/m"
ENV = "dev"
PATIENCE_S = 10.0


@dataclass
class Load:
    """What became of requests that were sent at fixed moments, whatever the answers before them did."""

    sent: int = 0
    lost: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    defaults: int = 0
    again: int = 0
    versions: dict[str, float] = field(default_factory=dict)
    """When the last request that a version has answered was due."""
    latencies_ms: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float:
        """A quantile of the answers' times."""
        listed = sorted(self.latencies_ms)
        return listed[min(len(listed) - 1, int(share * len(listed)))]

    @property
    def crowded(self) -> bool:
        """Whether this machine had so much else to do that answers came late, whatever was done to the servers."""
        return self.quantile_ms(0.9) > 50.0


class Client:
    """Keeps connections to a listener, as many as it takes."""

    def __init__(self, port: int, goal: str, row: dict[str, Any]) -> None:
        body = json.dumps(row).encode()
        head = f"POST /v1/goals/{goal}/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        self._request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        self._port, self.found = port, Load()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def run(self, rate: float, stop: threading.Event) -> None:
        """Send so many a second until told to stop."""
        begun, tasks = time.monotonic(), set()
        while not stop.is_set():
            due = begun + self.found.sent / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.found.sent += 1
            task = asyncio.ensure_future(self._one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for _, writer in self._idle:
            writer.close()

    async def _one(self, due: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                try:
                    status, data = await self._ask()
                except (asyncio.IncompleteReadError, ConnectionResetError) as error:
                    if getattr(error, "partial", b""):
                        raise
                    self.found.again += 1  # a kept connection was closed before any answer: anybody asks once more
                    status, data = await self._ask(fresh=True)
        except Exception as error:
            self.found.lost.append(repr(error))
            return
        now = time.monotonic()
        self.found.latencies_ms.append((now - due) * 1e3)
        self.found.statuses[status] += 1
        if status == 200:
            answer = json.loads(data)
            self.found.defaults += not answer["model"]
            if answer["model"]:
                self.found.versions[answer["version"]] = max(due, self.found.versions.get(answer["version"], due))

    async def _ask(self, fresh: bool = False) -> tuple[int, bytes]:
        if self._idle and not fresh:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        [length] = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length")]
        data = await reader.readexactly(int(length))
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split()[1]), data


@dataclass
class Trained:
    """A version that was trained once: its record, its manifest, and a folder with its files."""

    record: Version
    manifest: Manifest
    folder: Path


class Serving:
    """A project in an environment of the cluster, with the commands of whoever works with it.

    trained: by what they add, the versions that projects of this session have trained. row: of a request.
    """

    def __init__(
        self,
        town: Any,
        cluster: Any,
        trained: dict[float, Trained],
        model: str = MODEL,
        goal: str = "visit",
        row: dict[str, Any] | None = None,
    ) -> None:
        self.town, self.cluster, self._trained = town, cluster, trained
        self.model, self.goal, self.row = model, goal, row or {"age": 3}
        self.nomad = cluster.servers.nomads["services"]
        self.rdv = town.rdv
        self.load = Load()
        """What has become so far of the load that goes on, or the last one."""

    def settings(self, **changes: object) -> None:
        """Change rdv.toml: keys of [serve], or `replicas`, `reload`, `fetch` of the model."""
        file = self.town.folder / "rdv.toml"
        lines = file.read_text().splitlines()
        for name, value in changes.items():
            section = f'[models."{self.model}"]' if name in ("replicas", "reload", "fetch", "worker_mb") else "[serve]"
            lines = [line for line in lines if not line.startswith(f"{name} = ")]
            lines.insert(lines.index(section) + 1, f"{name} = {json.dumps(value)}")
        file.write_text("\n".join(lines) + "\n")

    def train(self, offset: float) -> str:
        """Publish a version that adds so much; its name. What another project has trained is copied."""
        project = load_project(self.town.folder, ENV)
        registry, store = select.registry(project), select.artifacts(project)
        if offset in self._trained:
            made = self._trained[offset]
            store.publish(made.manifest, made.folder)
            version = made.record.version
            registry.put(version_key(MODEL, version), encode(replace(made.record, created=now_text())), 0)
            return version
        version = str(self.rdv("train", MODEL, "-P", f"offset={offset}", "-o", "json")["version"])
        entry = registry.get(version_key(MODEL, version))
        assert entry is not None
        record = decode(Version, entry.value, version)
        manifest = store.manifest(record.artifact)
        assert manifest is not None
        folder = self.town.folder.parent / f"version-{offset}"
        folder.mkdir()
        for file in manifest.files:
            store.fetch(manifest, file.path, folder / file.path)
        self._trained[offset] = Trained(record, manifest, folder)
        return version

    def begin(self, **settings: object) -> list[str]:
        """Two versions, of which the first is served by two workers to two gateways."""
        versions = [self.train(2.0), self.train(1.0)]
        self.serve(versions[0], **settings)
        return versions

    def serve(self, version: str, **settings: object) -> None:
        """Have a version served, by two workers to two gateways unless told otherwise."""
        self.rdv("deploy", self.model, "--version", version, "--timeout", "0")
        wanted = {"gateways": 2, "replicas": 2, **settings}
        self.settings(**wanted)
        self.apply()
        self.whole(int(str(wanted["gateways"])), int(str(wanted["replicas"])))

    def apply(self) -> None:
        """Have the jobs run as they are declared, for the first time.

        Nomad gives instances a minute to become healthy, in which a very busy machine may not start them: once more.
        """
        process = self.town.start("apply")
        out, err = process.communicate()
        if process.returncode == 1 and "healthy_deadline" in out + err:
            self.rdv("apply", "--anew")
        else:
            assert process.returncode == 0, f"{out}\n{err}"

    def until(self, true: Callable[[Any], bool]) -> Any:
        """The status, as soon as it is so; while nobody answers it is not."""
        told = ""

        def look() -> Any:
            nonlocal told
            process = self.town.start("status", "-o", "json")
            told = "".join(process.communicate())
            found = json.loads(told) if process.returncode == 0 else None
            return found if found is not None and true(found) else None

        try:
            return self.town.until(look)
        except AssertionError:
            print(told)
            raise

    def whole(self, gateways: int = 2, workers: int = 2) -> Any:
        """The status, as soon as so many gateways and workers are seen, and every gateway sees every worker."""

        def is_whole(now: Any) -> bool:
            seen = [one["goals"][self.goal]["models"][self.model]["replicas"] for one in now["gateways"]]
            return [len(one) for one in seen] == [workers] * gateways and len(now["workers"]) == workers

        return self.until(is_whole)

    def port(self) -> int:
        """Where the proxy is found, as soon as it passes its check."""
        project = load_project(self.town.folder, self.town.env)
        catalog, service = select.catalog(project), select.service(project, "proxy")
        [proxy] = self.town.until(lambda: catalog.find(service).instances)
        return int(proxy.port)

    def job(self, role: str, model: str = "") -> Any:
        """A job's state as the port tells it."""
        jobs = select.services(load_project(self.town.folder, self.town.env)).look()
        return next(one for one in jobs if (one.role, one.model) == (role, model))

    def replacing(self, role: str) -> bool:
        """Whether an instance runs in place of an old one, and is not known to be healthy yet."""
        job = self.job(role)
        return job.rolling and any(one.state == "running" and one.healthy is None for one in job.instances)

    def ask(self) -> dict[str, Any]:
        """What a model answers through the proxy for an age of three, and its version.

        On a busy machine the budget may run out; whoever got the default asks again.
        """
        url = f"http://127.0.0.1:{self.port()}"

        def answered() -> dict[str, Any]:
            found: dict[str, Any] = self.town.ask(url)
            return found if found["version"] else {}

        return dict(self.town.until(answered))

    def under_load(
        self, rate: float, work: Callable[[], object], before_s: float = 1.0, after_s: float = 1.0, port: int = 0
    ) -> Load:
        """What became of a load on the proxy while something was done."""
        stop, client = threading.Event(), Client(port or self.port(), self.goal, self.row)
        self.load = client.found
        thread = threading.Thread(target=lambda: asyncio.run(client.run(rate, stop)))
        thread.start()
        try:
            time.sleep(before_s)
            work()
            time.sleep(after_s)
        finally:
            stop.set()
            thread.join()
        return client.found


@pytest.fixture(scope="session")
def trained() -> dict[float, Trained]:
    """The versions that were trained so far."""
    return {}


def own_places(cluster: Any, name: str, env: str = ENV) -> dict[str, str]:
    """An environment of a cluster, with a bucket and keys of a project's own."""
    places: dict[str, str] = cluster.environments()[env]
    prefix, query = places["registry"].partition("?")[::2]
    how = places["artifacts"].partition("?")[2]
    places["artifacts"] = f"s3:{cluster.servers.s3.new_bucket()}?{how}"
    places["registry"] = f"{prefix}/{name}?{query}"
    return places


def make_serving(
    cluster: Any, towns: Any, folder: Path, trained: dict[float, Trained], trains: str = "local:"
) -> Serving:
    """A project of its own in an environment of a cluster. trains: where; by default on this machine, empty: there."""
    project, name = folder / "project", f"t{short_id()}"
    project.mkdir()
    places = own_places(cluster, name)
    places["cluster"] = trains or places["cluster"]
    town = towns.Town(project, places, cluster.servers.nomads["services"], ENV)
    file = project / "rdv.toml"
    file.write_text(
        file.read_text()
        .replace('project = "town"', f'project = "{name}"')
        .replace("budget_ms = 20_000", f'budget_ms = 200\ntiers = [{{ until_ms = 180, models = ["{MODEL}"] }}]')
    )
    return Serving(town, cluster, trained)


@pytest.fixture
def nobodys_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without tokens of the caller's."""
    for name in ("NOMAD_TOKEN", "CONSUL_HTTP_TOKEN", "VAULT_TOKEN", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serving(
    dev_cluster: Any, towns: Any, tmp_path: Path, trained: dict[float, Trained], nobodys_tokens: None
) -> Iterator[Serving]:
    """A project on the session's cluster; its serving jobs are gone with the test."""
    made = make_serving(dev_cluster, towns, tmp_path, trained)
    yield made
    made.rdv("apply", "--remove")


@pytest.fixture
def scheduled(dev_cluster: Any, towns: Any, tmp_path: Path, nobodys_tokens: None) -> Iterator[Serving]:
    """A project that trains on the batch cluster, and releases; serving jobs and schedule are gone with the test."""
    made = make_serving(dev_cluster, towns, tmp_path, {}, trains="")
    text = made.town.folder.joinpath("rdv.toml").read_text()
    made.town.mark("rdv.toml", text.replace('metric = "rmse"', 'metric = "rmse"\npublish = "deploy"'))
    yield made
    if made.rdv("schedule", "list", "-o", "json"):
        made.rdv("schedule", "remove", MODEL, "--yes")
    made.rdv("apply", "--remove")


@pytest.fixture
def own_serving(
    new_dev_cluster: Callable[[], Any], towns: Any, tmp_path: Path, trained: dict[float, Trained], nobodys_tokens: None
) -> Iterator[Serving]:
    """A project on a cluster that the test may break."""
    cluster = new_dev_cluster()
    cluster.up()
    yield make_serving(cluster, towns, tmp_path, trained)
    cluster.down()


@pytest.fixture(scope="module")
def shop_serving(docker_cluster: Any, shop: Any, towns: Any, tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """The project that the image was made of, on the cluster that has it."""
    project, name = tmp_path_factory.mktemp("serving") / "shop", f"t{short_id()}"
    shutil.copytree(shop.folder, project, ignore=shutil.ignore_patterns(".rdv"))
    places = own_places(docker_cluster, name) | {"cluster": "local:"}
    text = (project / "rdv.toml").read_text().replace('project = "shop"', f'project = "{name}"\n[serve]\nport = 0')
    text = text.partition('[models."churn/monotone"]')[0] + f"[environments.{ENV}]\n"
    (project / "rdv.toml").write_text(text + "".join(f'{port} = "{place}"\n' for port, place in places.items()))
    customer = {"customer": "c1", "plan": "pro", "months": 3, "calls": 4, "spend": 80.5}
    return Serving(towns.Person(project, ENV), docker_cluster, {}, "churn/lightgbm", "churn", customer)
