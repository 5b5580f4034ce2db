"""The stages from a commit to everybody in production, on one machine: what a pipeline's jobs type, in their order."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rdv.errors import Exit

LIMIT_S = 120
LOAD = "--rate 10 --for 2s --budget p99=60s,errors=0"


class Shop:
    """A project in a repository of its own, with environments for staging and production on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("CI_", "RDV_CI"))}
        self.environment |= {"RDV_CI_LOAD": LOAD, "RDV_SERVE_PORT": "0"}

    def rdv(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """How a command ends, and what it says."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "rdv.cli", *arguments], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LIMIT_S, check=False,
        )  # fmt: skip

    def stage(self, name: str) -> dict[str, Any]:
        """What a stage that ends well has told."""
        ended = self.rdv("ci", name)
        assert ended.returncode == Exit.OK, f"{name}\n{ended.stdout}\n{ended.stderr}"
        told: dict[str, Any] = json.loads((self.folder / f"rdv-ci/{name}.json").read_text())["told"]
        return told

    def red(self, name: str) -> tuple[int, str]:
        """The exit code and the last sentence of a stage."""
        ended = self.rdv("ci", name)
        return ended.returncode, ended.stderr.strip().splitlines()[-1]

    def commit(self) -> None:
        """Commit everything, and forget what earlier stages left, as a new pipeline would."""
        for old in (self.folder / "rdv-ci").glob("*"):
            old.unlink()
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (["add", "--all"], [*who, "commit", "-q", "-m", "change"]):
            subprocess.run(["git", *command], cwd=self.folder, check=True)

    def change(self, old: str, new: str) -> None:
        """Change rdv.toml, and commit it."""
        file = self.folder / "rdv.toml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        self.commit()

    def pass_over(self, name: str) -> None:
        """Have a stage's record that this test does not run."""
        record = json.loads((self.folder / "rdv-ci/build.json").read_text()) | {"stage": name, "told": {}}
        (self.folder / f"rdv-ci/{name}.json").write_text(json.dumps(record))

    @contextmanager
    def serving(self, env: str) -> Iterator[None]:
        """An environment that serves while this lasts."""
        with self.folder.joinpath(f"{env}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rdv.cli", "serve", "--env", env], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until = time.monotonic() + LIMIT_S
            while self.rdv("status", "--env", env).returncode:
                assert time.monotonic() < until, self.folder.joinpath(f"{env}.log").read_text()
                time.sleep(0.2)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A new project, committed."""
    made = Shop(tmp_path / "shop")
    argv = [sys.executable, "-P", "-m", "rdv.cli", "init", str(made.folder)]
    subprocess.run(argv, check=True, capture_output=True)
    with (made.folder / "rdv.toml").open("a") as file:
        file.write("[environments.staging]\n[environments.production]\n")
    with (made.folder / ".gitignore").open("a") as file:
        file.write("*.log\n")
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=made.folder, check=True)
    made.commit()
    return made


def test_a_commit_goes_to_production_and_a_better_one_as_a_canary(shop: Shop) -> None:
    """Each stage ends well in its order; production serves what staging did; a canary is promoted, a worse one refused.

    What a second pipeline finds by name it does not make again.
    """
    with shop.serving("staging"), shop.serving("production"):
        assert shop.stage("build") == {"image": ""}
        shop.pass_over("test")
        trained = shop.stage("train")["models"]
        assert [one["trained"] for one in trained.values()] == [1, 1]
        assert "# shop: models in `staging`" in (shop.folder / "rdv-ci/report.md").read_text()
        assert "churn_lightgbm_test_auc" in (shop.folder / "rdv-ci/metrics.txt").read_text()
        assert shop.red("load")[0] == Exit.USAGE
        released = shop.stage("staging")["released"]
        assert {model: one["version"] for model, one in released.items()} == {
            model: one["version"] for model, one in trained.items()
        }
        assert (shop.stage("load")["goals"], (shop.folder / "rdv-ci/load-churn.xml").is_file()) == (["churn"], True)
        shop.pass_over("contract")
        first = shop.stage("canary")
        assert (sorted(first["released"]), first["canaries"]) == (["churn/lightgbm", "churn/monotone"], [])

        shop.change("num_leaves = 15", "num_leaves = 4")
        assert "comes after build" in shop.red("train")[1]
        shop.stage("build")
        shop.pass_over("test")
        again = shop.stage("train")["models"]
        assert [again[model]["trained"] for model in ("churn/lightgbm", "churn/monotone")] == [1, 0]
        shop.stage("staging")
        shop.stage("load")
        shop.pass_over("contract")
        assert shop.stage("canary")["canaries"] == ["churn/lightgbm"]
        shop.stage("promote")
        served = {one["model"]: one["current"] for one in json.loads(shop.rdv(
            "models", "list", "--env", "production", "-o", "json").stdout)}  # fmt: skip
        assert served["churn/lightgbm"] == again["churn/lightgbm"]["version"]

        shop.change("floor = 0.6      ", "floor = 0.99     ")
        shop.stage("build")
        shop.pass_over("test")
        code, sentence = shop.red("train")
        assert (code, "floor" in sentence or "0.99" in sentence) == (Exit.REFUSED, True), sentence
