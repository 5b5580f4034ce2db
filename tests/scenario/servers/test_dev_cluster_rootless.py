"""`rdv dev-cluster` for somebody without root: it says what that costs, trains a model, and leaves nothing."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.devcluster.http import call

pytestmark = pytest.mark.live
HANG_S = 300.0
MODEL = "visit/m"


class Somebody:
    """A user of this machine who is not root, with a home that is the user's own.

    Where the tests run as root that is `nobody` (Nomad looks its user up, so no number will do), who may read what root
    may, as the interpreter and the servers can lie in root's home, and has no other right; else whoever runs the tests.
    """

    def __init__(self, home: Path, servers: Path, setpriv: str) -> None:
        self.home, self.project = home, home / "project"
        self.cluster = home / ".cache" / "rdv" / "dev-cluster"
        self._environ = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "RDV_SERVERS": str(servers)}
        self.user, self._as = os.geteuid(), list[str]()
        if self.user == 0:
            self.user = pwd.getpwnam("nobody").pw_uid
            reads = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search")
            bounds = "--bounding-set=-all,+dac_read_search"
            self._as = [setpriv, f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *reads, bounds]
        self.project.mkdir()
        self.owns(home)

    def owns(self, top: Path) -> None:
        """Have everything below a folder be this user's."""
        for path in (top, *top.rglob("*")):
            os.chown(path, self.user, -1)

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What a command of rdv prints, on stdout and stderr; it must end with the code."""
        argv = [*self._as, sys.executable, "-P", "-m", "rdv.cli", *arguments]
        ended = subprocess.run(
            argv, cwd=self.project, env=self._environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=HANG_S, check=False,
        )  # fmt: skip
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout, ended.stderr

    def remains(self) -> list[str]:
        """Processes and mounts that name the home."""
        mark = str(self.home).encode()
        left = [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.home) in line]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if mark in told and state not in "ZX":
                left.append(told.replace(b"\0", b" ").decode(errors="replace")[:200])
        return left


@pytest.fixture
def somebody(live_servers_folder: Path, require: Callable[..., str]) -> Iterator[Somebody]:
    """A user without a cluster yet; afterwards it is down."""
    setpriv = require("setpriv", remedy="apt-get install -y util-linux") if os.geteuid() == 0 else ""
    home = Path(tempfile.mkdtemp(prefix="rdv-user-"))
    made = Somebody(home, live_servers_folder, setpriv)
    try:
        yield made
    finally:
        made("dev-cluster", "down")
        shutil.rmtree(home)


def test_a_cluster_without_root(somebody: Somebody, towns: Any) -> None:
    """Every server runs as the user; tasks run by raw_exec, as is said before; a model is trained through steps on

    Nomad, and `down` leaves no process, mount or file.
    """
    _, said = somebody("dev-cluster", "up")
    assert "without root, tasks run by raw_exec only: nothing keeps them apart or bounds their memory" in said
    status = json.loads(somebody("dev-cluster", "status", "-o", "json")[0])
    assert all(one["ready"] for one in status)
    assert {os.stat(f"/proc/{one['pid']}").st_uid for one in status} == {somebody.user}
    drivers = node_drivers(somebody, {one["server"]: one["address"] for one in status}["nomad-batch"])
    assert drivers["raw_exec"]["Healthy"]
    assert not drivers["exec"]["Healthy"]

    places = tomllib.loads(somebody("dev-cluster", "env")[0])["environments"]["dev"]
    towns.Town(somebody.project, places, None)
    somebody.owns(somebody.project)
    trained = json.loads(somebody("train", MODEL, "-P", "offset=1.0", "--env", "dev", "-o", "json")[0])
    assert trained["trained"] == 1
    jobs = json.loads(somebody("jobs", "list", "--env", "dev", "-o", "json")[0])
    assert sum(one["dead"] for one in jobs if one["kind"] == "step") > 0

    somebody("dev-cluster", "down")
    assert not somebody.cluster.exists()
    assert somebody.remains() == []


def node_drivers(somebody: Somebody, address: str) -> Any:
    """The drivers of the batch cluster's node."""
    token = (somebody.cluster / "tokens" / "dev" / "nomad-batch.token").read_text().strip()
    [node] = call(int(address.rpartition(":")[2]), "GET", "/v1/nodes", None, {"X-Nomad-Token": token}).json()
    return node["Drivers"]
