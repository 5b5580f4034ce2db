"""A service project's image, built once on a base that no registry gave, and the machine's command for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rdv.cli.scaffold import starter, write

BUILD_S = 540.0
ENTRIES = '''
import os, signal, sys

def where(payload):
    print(os.getuid(), os.getcwd(), os.access(".", os.W_OK))

def leave(payload):
    sys.exit(payload["code"])

def die(payload):
    os.kill(os.getpid(), signal.SIGKILL)

def allocate(payload):
    blocks = []
    while True:
        blocks.append(b"x" * 4_000_000)

def train(payload):
    import lightgbm, numpy
    x = numpy.arange(2000.0).reshape(-1, 1)
    made = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(x, x[:, 0] > 700), 10)
    print(made.num_trees(), "trees")
'''


@dataclass(frozen=True)
class Shop:
    """A scaffolded project with its image and its wheels. rdv: runs the command there and gives what it printed."""

    folder: Path
    wheels: Path
    tag: str
    rdv: Callable[..., str]


@pytest.fixture(scope="session")
def docker_cluster(new_dev_cluster: Callable[[], Any]) -> Any:
    """A whole cluster with a Docker engine."""
    made = new_dev_cluster()
    made.up(["docker"])
    return made


@pytest.fixture(scope="session")
def docker_server(docker_cluster: Any) -> Any:
    """Its engine."""
    return docker_cluster.servers.docker


@pytest.fixture(scope="session")
def shop(docker_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The project and its image, on `rdv-base:1`."""
    top = tmp_path_factory.mktemp("shop")
    folder, wheels = top / "shop", top / "wheels"
    write(folder, {**starter("shop", "churn"), "entries.py": ENTRIES})
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RDV_")}

    def rdv(*arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "rdv.cli", *arguments], cwd=folder, env={**environ, **docker_server.environ},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-4000:]
        return ended.stdout

    rdv("image", "base", "rdv-base:1")
    made = rdv("image", "build", "--base", "rdv-base:1", "--wheels", str(wheels), "-o", "json")
    return Shop(folder, wheels, json.loads(made)["tag"], rdv)
