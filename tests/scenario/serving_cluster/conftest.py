"""What tests of serving jobs share: a project of its own in `dev` of the session's cluster, and load on its proxy."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select
from rdv.ids import short_id
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
    versions: dict[str, tuple[float, float]] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float:
        """A quantile of the answers' times."""
        listed = sorted(self.latencies_ms)
        return listed[min(len(listed) - 1, int(share * len(listed)))]


class Client:
    """Keeps connections to a listener, as many as it takes."""

    def __init__(self, port: int) -> None:
        body = json.dumps({"age": 3}).encode()
        head = "POST /v1/goals/visit/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
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
                first, _ = self.found.versions.get(answer["version"], (now, now))
                self.found.versions[answer["version"]] = (first, now)

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


class Serving:
    """A project in an environment of the cluster, with the commands of whoever works with it."""

    def __init__(self, town: Any, cluster: Any) -> None:
        self.town, self.cluster = town, cluster
        self.nomad = cluster.servers.nomads["services"]
        self.rdv = town.rdv

    def settings(self, **changes: object) -> None:
        """Change rdv.toml: keys of [serve], or `replicas`, `reload`, `fetch` of the model."""
        file = self.town.folder / "rdv.toml"
        lines = file.read_text().splitlines()
        for name, value in changes.items():
            section = f'[models."{MODEL}"]' if name in ("replicas", "reload", "fetch", "worker_mb") else "[serve]"
            lines = [line for line in lines if not line.startswith(f"{name} = ")]
            lines.insert(lines.index(section) + 1, f"{name} = {json.dumps(value)}")
        file.write_text("\n".join(lines) + "\n")

    def train(self, offset: float) -> str:
        """Publish a version that adds so much; its name."""
        return str(self.rdv("train", MODEL, "-P", f"offset={offset}", "-o", "json")["version"])

    def begin(self, **settings: object) -> list[str]:
        """Two versions, of which the first is served by two workers to two gateways."""
        versions = [self.train(2.0), self.train(1.0)]
        self.rdv("deploy", MODEL, "--version", versions[0], "--timeout", "0")
        self.settings(gateways=2, replicas=2, **settings)
        self.rdv("apply")
        self.rdv("status", "--wait", "60", "-o", "json")
        return versions

    def port(self) -> int:
        """Where the proxy is found now."""
        project = load_project(self.town.folder, ENV)
        [proxy] = select.catalog(project).find(select.service(project, "proxy")).instances
        return proxy.port

    def job(self, role: str, model: str = "") -> Any:
        """A job's state as the port tells it."""
        jobs = select.services(load_project(self.town.folder, ENV)).look()
        return next(one for one in jobs if (one.role, one.model) == (role, model))

    def under_load(
        self, rate: float, work: Callable[[], object], before_s: float = 1.0, after_s: float = 1.0, port: int = 0
    ) -> Load:
        """What became of a load on the proxy while something was done."""
        stop, client = threading.Event(), Client(port or self.port())
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


def make_serving(cluster: Any, towns: Any, folder: Path, trains: str = "local:") -> Serving:
    """A project of its own in an environment of a cluster. trains: where; by default on this machine, empty: there."""
    project = folder / "project"
    project.mkdir()
    places = cluster.environments()[ENV]
    places["cluster"] = trains or places["cluster"]
    name = f"t{short_id()}"
    prefix, query = places["registry"].partition("?")[::2]
    how = places["artifacts"].partition("?")[2]
    places["artifacts"] = f"s3:{cluster.servers.s3.new_bucket()}?{how}"
    places["registry"] = f"{prefix}/{name}?{query}"
    town = towns.Town(project, places, cluster.servers.nomads["services"], ENV)
    file = project / "rdv.toml"
    file.write_text(
        file.read_text()
        .replace('project = "town"', f'project = "{name}"')
        .replace("budget_ms = 80", f'budget_ms = 200\ntiers = [{{ until_ms = 180, models = ["{MODEL}"] }}]')
    )
    return Serving(town, cluster)


@pytest.fixture
def nobodys_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without tokens of the caller's."""
    for name in ("NOMAD_TOKEN", "CONSUL_HTTP_TOKEN", "VAULT_TOKEN", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serving(dev_cluster: Any, towns: Any, tmp_path: Path, nobodys_tokens: None) -> Iterator[Serving]:
    """A project on the session's cluster; its serving jobs are gone with the test."""
    made = make_serving(dev_cluster, towns, tmp_path)
    yield made
    made.rdv("apply", "--remove")


@pytest.fixture
def scheduled(dev_cluster: Any, towns: Any, tmp_path: Path, nobodys_tokens: None) -> Iterator[Serving]:
    """A project that trains on the batch cluster, and releases; serving jobs and schedule are gone with the test."""
    made = make_serving(dev_cluster, towns, tmp_path, trains="")
    text = made.town.folder.joinpath("rdv.toml").read_text()
    made.town.mark("rdv.toml", text.replace('metric = "rmse"', 'metric = "rmse"\npublish = "deploy"'))
    yield made
    if made.rdv("schedule", "list", "-o", "json"):
        made.rdv("schedule", "remove", MODEL, "--yes")
    made.rdv("apply", "--remove")


@pytest.fixture
def own_serving(
    new_dev_cluster: Callable[[], Any], towns: Any, tmp_path: Path, nobodys_tokens: None
) -> Iterator[Serving]:
    """A project on a cluster that the test may break."""
    cluster = new_dev_cluster()
    cluster.up()
    yield make_serving(cluster, towns, tmp_path)
    cluster.down()
