"""A service project's image, built once on a base that no registry gave, and a cluster whose tasks run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
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
    """A scaffolded project with its wheels. rdv: runs the command there and gives what it printed."""

    folder: Path
    wheels: Path
    rdv: Callable[..., str]
    tag: str = ""


@pytest.fixture(scope="session")
def bare_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The project, without an engine or an image."""
    top = tmp_path_factory.mktemp("shop")
    folder = top / "shop"
    write(folder, {**starter("shop", "churn"), "entries.py": ENTRIES})
    return Shop(folder, top / "wheels", partial(run, folder, {}))


@pytest.fixture(scope="session")
def chroot(is_live: bool, bare_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What Nomad's `chroot_env` says for a root file system of the project, with nginx; removed with the session."""
    if not is_live:
        pytest.skip("needs the real servers; type: make test-cluster")
    root = tmp_path_factory.mktemp("chroot") / "root"
    wheels = ["--wheels", str(bare_shop.wheels)]
    made = json.loads(bare_shop.rdv("image", "root", str(root), *wheels, "--with", "nginx", "-o", "json"))
    yield {one["from"]: one["to"] for one in made}
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def docker_cluster(new_dev_cluster: Callable[[], Any], chroot: dict[str, str]) -> Any:
    """A whole cluster with a Docker engine, where tasks of the exec driver see the project's root file system."""
    made = new_dev_cluster()
    made.up(["docker"], chroot=chroot)
    return made


@pytest.fixture(scope="session")
def docker_server(docker_cluster: Any) -> Any:
    """Its engine."""
    return docker_cluster.servers.docker


@pytest.fixture(scope="session")
def shop(docker_server: Any, bare_shop: Shop) -> Shop:
    """The project with its image, on `rdv-base:1`, in which there is an nginx."""
    rdv = partial(run, bare_shop.folder, docker_server.environ)
    rdv("image", "base", "rdv-base:1", "--with", "nginx")
    made = rdv("image", "build", "--base", "rdv-base:1", "--wheels", str(bare_shop.wheels), "-o", "json")
    return replace(bare_shop, rdv=rdv, tag=json.loads(made)["tag"])


def run(folder: Path, environ: dict[str, str], *arguments: str) -> str:
    """What an rdv command in a folder prints; it must end well."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RDV_")}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "rdv.cli", *arguments], cwd=folder, env={**kept, **environ},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout
