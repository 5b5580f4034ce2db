"""Whoever types commands in a project of a dev cluster that is theirs alone: for figures of serving on a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
from servers import RDV, wait_until

from rdv.config import Project

GOAL, MODEL, ENV = "churn", "churn/lightgbm", "dev"
BODIES, BODIES_SEED = 256, 7
STATUS_S = "60"


class Person:
    """Who types commands in a project of a cluster of one's own. versions: three of its model, the first released."""

    def __init__(self, top: Path) -> None:
        self.cluster, self.folder = top / "cluster", top / "shop"
        self._env = {**os.environ, "RDV_SERVE_PORT": "0", "RDV_SERVE_GATEWAYS": "2"}
        self.versions: list[str] = []

    def rdv(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """What a command says."""
        where = self.folder if self.folder.is_dir() else self.folder.parent
        done = subprocess.run([RDV, *words], cwd=where, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode not in codes:
            raise RuntimeError(f"rdv {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def begin(self) -> None:
        """Have the cluster, the project and the versions."""
        self.rdv("dev-cluster", "up", "--folder", str(self.cluster))
        self.rdv("init", "shop")
        with (self.folder / "rdv.toml").open("a") as file:
            file.write(self.rdv("dev-cluster", "env", "--folder", str(self.cluster)))
        self.rdv("jobs", "register", "--env", ENV)
        train = ("train", MODEL, "--env", ENV, "-o", "json", "-P", "num_leaves=7", "-P")
        made = [self.rdv(*train, f"num_iterations={count}") for count in (20, 30, 40)]
        self.versions = [json.loads(one)["version"] for one in made]
        self.rdv("deploy", MODEL, "--version", self.versions[0], "--env", ENV, "--timeout", "0")

    def serve(self, reload: str) -> None:
        """Two gateways and two workers, which hear of a release in this way, are ready."""
        settings = self.folder / "rdv.toml"
        kept = [line for line in settings.read_text().splitlines() if not line.startswith(("replicas", "reload"))]
        kept.insert(kept.index(f'[models."{MODEL}"]') + 1, f'replicas = 2\nreload = "{reload}"')
        settings.write_text("\n".join(kept) + "\n")
        self.rdv("apply", "--env", ENV)
        self.rdv("status", "--env", ENV, "--wait", STATUS_S)

    def project(self) -> Project:
        """The project as its commands see it."""
        from rdv.settings import load_project

        return load_project(self.folder, ENV)

    def proxy_port(self) -> int:
        """Where the proxy before the gateways listens, once it passes its check."""
        from rdv.backends import select

        project = self.project()
        find = partial(select.catalog(project).find, select.service(project, "proxy"))
        wait_until(lambda: bool(find().instances), "the proxy is found")
        return find().instances[0].port

    def bodies(self) -> Path:
        """A file of valid requests, one a line."""
        from rdv.schema import load_schema, probes

        project = self.project()
        made = probes(load_schema(project.config.goals[GOAL], project.folder), BODIES_SEED, BODIES)
        file = self.folder / "bodies.jsonl"
        file.write_bytes(b"\n".join(msgspec.json.encode(one) for one in made) + b"\n")
        return file

    def expected(self, bodies: Path) -> dict[tuple[str, str], list[float]]:
        """What each version says about each request, by `rdv score`."""
        ask = ("score", MODEL, "--env", ENV, "-o", "jsonl", "--input", str(bodies), "--version")
        told = {version: self.rdv(*ask, version).splitlines() for version in self.versions}
        return {(MODEL, version): [json.loads(line)["score"] for line in lines] for version, lines in told.items()}

    def release_s(self, version: str) -> float:
        """Release a version; seconds until everybody served it."""
        told = json.loads(self.rdv("deploy", MODEL, "--version", version, "--env", ENV, "-o", "json"))
        if told["replicas"] != 2:
            raise RuntimeError(f"{told['replicas']} workers serve {version}, not 2")
        return float(told["waited_s"])

    def end(self) -> None:
        """Nothing of it stays."""
        if self.folder.is_dir():
            self.rdv("apply", "--env", ENV, "--remove", codes=(0, 1, 3, 5))
        self.rdv("dev-cluster", "down", "--folder", str(self.cluster))


@contextmanager
def person() -> Iterator[Person]:
    """Somebody with a cluster and a project, of which nothing stays."""
    top = Path(tempfile.mkdtemp(prefix="rdv-person-"))
    somebody = Person(top)
    try:
        somebody.begin()
        yield somebody
    finally:
        somebody.end()
        shutil.rmtree(top, ignore_errors=True)
