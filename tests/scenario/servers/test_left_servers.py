"""Servers whose starter is ended or killed: nothing of them is left, not even what they have started themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdv.errors import Exit

pytestmark = pytest.mark.live
HANG_S = 90.0
BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
# a scenario that has its servers up, and measures for ever
SCENARIO = """
import os, pathlib, tempfile, threading
from rdv.backends.devcluster.hdfs import HdfsServers

def measure(short):
    with tempfile.TemporaryDirectory() as folder:
        server = HdfsServers(pathlib.Path(folder), os.environ)
        try:
            server.start()
            print("ready", folder, flush=True)
            threading.Event().wait()
        finally:
            server.close()
"""
BENCH = """
import sys
sys.path[:0] = sys.argv[1:3]
import run
run.CLUSTER["endless"] = ()
sys.argv = ["run.py", "--cluster", "--only", "endless", "--out", sys.argv[2] + "/out.json"]
sys.exit(run.main())
"""


class Bench:
    """A run of the benchmarks whose scenario has an HDFS up. data: the folder of that."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        folder.joinpath("endless.py").write_text(SCENARIO)
        argv = [sys.executable, "-P", "-c", BENCH, str(BENCHMARKS), str(folder)]
        self.process = subprocess.Popen(
            argv, env=environ | {"TMPDIR": str(folder)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        word, _, told = self.process.stdout.readline().strip().partition(" ")
        assert word == "ready", self.process.communicate(timeout=HANG_S)
        self.data = Path(told)

    def servers(self) -> list[int]:
        """Processes that run and name the folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                names = str(self.data).encode() in (process / "cmdline").read_bytes()
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if names and state not in "ZX":
                found.append(int(process.name))
        return found


@pytest.fixture
def bench(tmp_path: Path, environ: dict[str, str], is_live: bool) -> Iterator[Bench]:
    """Benchmarks that run, and what is left of them ended."""
    if not is_live:
        pytest.skip("needs HDFS; type: make test-cluster")
    made = Bench(tmp_path, environ)
    yield made
    made.process.kill()
    made.process.communicate(timeout=HANG_S)
    for pid in made.servers():
        os.kill(pid, signal.SIGKILL)


def test_benchmarks_that_are_terminated_take_their_servers_along(bench: Bench) -> None:
    """SIGTERM ends the run with 130, and neither a JVM nor a file of its servers is left."""
    assert len(bench.servers()) == 3
    bench.process.send_signal(signal.SIGTERM)
    _, said = bench.process.communicate(timeout=HANG_S)
    assert bench.process.returncode == Exit.INTERRUPTED, said
    assert bench.servers() == []
    assert not bench.data.exists()


def test_servers_of_a_killed_runner_end(bench: Bench) -> None:
    """After kill -9 of whoever started them, script and both JVMs are gone: the kernel ends each with its parent."""
    assert len(bench.servers()) == 3
    bench.process.kill()
    until = time.monotonic() + HANG_S
    while bench.servers() and time.monotonic() < until:
        time.sleep(0.05)
    assert bench.servers() == []
