"""How long a release takes to reach every worker of a cluster: two gateways and two workers as jobs of a dev cluster.

Timed by `rdv deploy` itself, from the moved pointer to the moment at which both workers serve the version and both
gateways know it. Three versions take turns, of which a worker holds two: each release fetches, tries and loads one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from figures import median
from servers import RDV

MODEL = "churn/lightgbm"
WAYS = ("signal", "watch")


class Person:
    """Who types commands in a project of a cluster of one's own."""

    def __init__(self, top: Path) -> None:
        self.cluster, self.folder = top / "cluster", top / "shop"
        self._env = {**os.environ, "RDV_SERVE_PORT": "0", "RDV_SERVE_GATEWAYS": "2"}

    def rdv(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """What a command says."""
        where = self.folder if self.folder.is_dir() else self.folder.parent
        done = subprocess.run([RDV, *words], cwd=where, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode not in codes:
            raise RuntimeError(f"rdv {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def begin(self) -> list[str]:
        """Have the cluster, the project and three versions of its model; their names."""
        self.rdv("dev-cluster", "up", "--folder", str(self.cluster))
        self.rdv("init", "shop")
        with (self.folder / "rdv.toml").open("a") as file:
            file.write(self.rdv("dev-cluster", "env", "--folder", str(self.cluster)))
        self.rdv("jobs", "register", "--env", "dev")
        train = ("train", MODEL, "--env", "dev", "-o", "json", "-P", "num_leaves=7", "-P")
        made = [self.rdv(*train, f"num_iterations={count}") for count in (20, 30, 40)]
        return [json.loads(one)["version"] for one in made]

    def serve(self, reload: str) -> None:
        """Two gateways and two workers, which hear of a release in this way, are ready."""
        settings = self.folder / "rdv.toml"
        kept = [line for line in settings.read_text().splitlines() if not line.startswith(("replicas", "reload"))]
        kept.insert(kept.index(f'[models."{MODEL}"]') + 1, f'replicas = 2\nreload = "{reload}"')
        settings.write_text("\n".join(kept) + "\n")
        self.rdv("apply", "--env", "dev")
        self.rdv("status", "--env", "dev", "--wait", "60")

    def release_s(self, version: str) -> float:
        """Release a version; seconds until everybody served it."""
        told = json.loads(self.rdv("deploy", MODEL, "--version", version, "--env", "dev", "-o", "json"))
        if told["replicas"] != 2:
            raise RuntimeError(f"{told['replicas']} workers serve {version}, not 2")
        return float(told["waited_s"])

    def end(self) -> None:
        """Nothing of it stays."""
        if self.folder.is_dir():
            self.rdv("apply", "--env", "dev", "--remove", codes=(0, 1, 3, 5))
        self.rdv("dev-cluster", "down", "--folder", str(self.cluster))


def measure(short: bool) -> list[dict[str, Any]]:
    """Seconds from the pointer to the last worker, median over 12 releases (short: 4) after a first one."""
    releases = 4 if short else 12
    top = Path(tempfile.mkdtemp(prefix="rdv-reload-"))
    person = Person(top)
    figures = []
    try:
        versions = person.begin()
        person.rdv("deploy", MODEL, "--version", versions[0], "--env", "dev", "--timeout", "0")
        for reload in WAYS:
            person.serve(reload)
            over_s = [person.release_s(versions[at % 3]) for at in range(1, releases + 2)][1:]
            detail = {"runs_s": over_s}
            figures.append({"figure": f"reload-{reload}", "ours": median(over_s), "unit": "s", "detail": detail})
    finally:
        person.end()
        shutil.rmtree(top, ignore_errors=True)
    return figures
