"""What running a trivial step costs through the embedded cluster, and whether that grows with their number.

Threads dispatch and wait, as the pipeline runner's do; two steps run at a time. Beside it plain Luigi with two worker
processes, whose tasks write one small file each and are isolated by nothing but a fork.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from figures import median
from idle import IdleTimer

from rdv.backends.local.cluster import LocalCluster
from rdv.backends.ports import Status, StepSpec

WORKERS, THREADS = 2, 64
_ENTRIES = "def nothing(payload):\n    pass\n"
_LUIGI = """
import sys, time
import luigi

class Step(luigi.Task):
    at = luigi.IntParameter()
    folder = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(f"{self.folder}/{self.at}")

    def run(self):
        with self.output().open("w") as file:
            file.write("done")

folder, count = sys.argv[1], int(sys.argv[2])
begun = time.perf_counter()
tasks = [Step(at=at, folder=folder) for at in range(count)]
assert luigi.build(tasks, workers=2, local_scheduler=True, log_level="ERROR")
print((time.perf_counter() - begun) / count * 1000)
"""


def cluster_ms(count: int) -> tuple[float, dict[str, Any]]:
    """Milliseconds a step for so many steps, a warm fork server given; what the dispatcher held in the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.joinpath("trivial.py").write_text(_ENTRIES)
        with LocalCluster(folder / ".rdv", WORKERS) as cluster, ThreadPoolExecutor(THREADS) as pool:

            def run(at: int) -> bool:
                spec = StepSpec(
                    run="r", name="step", token=str(at), entry="trivial:nothing", payload={"at": at}, folder=name
                )
                return cluster.wait(cluster.dispatch(spec)).status is Status.SUCCEEDED

            if not all(pool.map(run, range(-THREADS, 0))):
                raise RuntimeError("a trivial step failed")
            held, begun = _resident_bytes(), time.perf_counter()
            if not all(pool.map(run, range(count))):
                raise RuntimeError("a trivial step failed")
            wall_s = time.perf_counter() - begun
            return wall_s / count * 1000.0, {"dispatcher_growth_bytes": _resident_bytes() - held}


def luigi_ms(count: int) -> float:
    """Milliseconds a task for so many tasks of plain Luigi, in a process of its own, its imports not counted."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _LUIGI, folder, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])


def measure(short: bool) -> list[dict[str, Any]]:
    """Overhead a step at 1,000 (short: 200) steps beside plain Luigi's, and beside our own at a fifth of them.

    Medians of 3 runs (short: 1), the three kinds taken in turn.
    """
    many, few = (200, 40) if short else (1000, 200)
    runs: list[dict[str, Any]] = []
    with IdleTimer() as timer:
        for _ in range(1 if short else 3):
            few_ms, _ = cluster_ms(few)
            many_ms, held = cluster_ms(many)
            runs.append({"few_ms": few_ms, "many_ms": many_ms, "luigi_ms": luigi_ms(many), **held})
    ours, fewer, peer = (median([run[name] for run in runs]) for name in ("many_ms", "few_ms", "luigi_ms"))
    shared = {"unit": "ms", "timer_ms": timer.worst_ms}
    return [
        {"figure": "step-overhead", "ours": ours, "peer": peer, "detail": {"steps": many, "runs": runs}, **shared},
        {"figure": "step-overhead-growth", "ours": ours, "peer": fewer, "detail": {"steps": [many, few]}, **shared},
    ]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(measure("--short" in sys.argv)))
