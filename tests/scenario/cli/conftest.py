"""Commands typed as processes, a project that has two versions of a model, and serving it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 180
MODEL = "churn/lightgbm"


@dataclass
class Rdv:
    """Types `rdv` commands in a folder."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """How a command ended, and what it wrote."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "rdv.cli", *arguments], cwd=self.folder, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=LIMIT_S, env={**os.environ, **self.environment},
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        """What a command that ends well prints with -o json."""
        ended = self(*arguments, "-o", "json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture
def typed(tmp_path: Path) -> Callable[[Path], Rdv]:
    """A function that makes an `rdv` for a folder."""
    return lambda folder: Rdv(folder)


@dataclass(frozen=True)
class Shop:
    """A scaffolded project with two published versions of one model, none released. versions: oldest first."""

    rdv: Rdv
    folder: Path
    versions: tuple[str, str]


def scaffold(folder: Path) -> Rdv:
    """A new project in a folder, on any free port."""
    Rdv(folder.parent)("init", str(folder))
    return Rdv(folder, {"RDV_SERVE_PORT": "0"})


@pytest.fixture
def new_project(tmp_path: Path) -> Rdv:
    """A scaffolded project in which nothing was done yet."""
    return scaffold(tmp_path / "shop")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A project with two versions, trained once: tests work on copies."""
    folder = tmp_path_factory.mktemp("trained") / "shop"
    grids = (("-P", "num_iterations=5", "-P", "num_leaves=3"), ("-P", "num_iterations=20", "-P", "num_leaves=4"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RDV_")]:
            patch.delenv(name)
        rdv = scaffold(folder)
        first, second = (rdv.json("train", MODEL, *grid)["version"] for grid in grids)
    return Shop(rdv, folder, (first, second))


@pytest.fixture
def shop(trained: Shop, tmp_path: Path) -> Shop:
    """A project with two versions."""
    folder = shutil.copytree(trained.folder, tmp_path / "shop", symlinks=True)
    return Shop(Rdv(folder, trained.rdv.environment), folder, trained.versions)


@pytest.fixture
def serving(shop: Shop) -> Iterator[Shop]:
    """The project with its first version released and served."""
    assert shop.rdv("deploy", MODEL, "--version", shop.versions[0]).returncode == 0
    with shop.folder.joinpath("serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rdv.cli", "up"], cwd=shop.folder, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, env={**os.environ, **shop.rdv.environment},
        )  # fmt: skip
    try:
        ready = shop.rdv("status", "--wait", "60")
        assert ready.returncode == 0, ready.stderr + shop.folder.joinpath("serve.log").read_text()
        yield shop
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
