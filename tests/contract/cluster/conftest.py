"""What the suite over the cluster port shares: a project with entries to run, and a bench for every adapter."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.cluster_local import LocalCluster
from rdv.backends.ports import Cluster, Outcome, Resources, StepSpec

HANG_S = 60.0

ENTRIES = '''
"""Entries of steps; each takes the decoded payload."""
import os, signal, sys, time


def say(payload):
    print("out", payload["text"])
    print("err", payload["text"], file=sys.stderr)


def count(payload):
    with open(payload["file"], "a") as file:
        file.write(payload.get("line", "x") + "\\n")


def leave(payload):
    sys.exit(payload["code"])


def fail(payload):
    raise ValueError("no good")


def refuse(payload):
    from rdv.errors import Refused
    raise Refused("the model is constant", "look at its data")


def die(payload):
    os.kill(os.getpid(), signal.SIGKILL)


def allocate(payload):
    blocks = []
    while True:
        blocks.append(b"x" * 4_000_000)


def allocate_in_children(payload):
    """Four children that stay below the limit alone, and pass it together."""
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            block = b"x" * (payload["mb"] << 20)
            time.sleep(600)
        children.append(child)
    time.sleep(600)


def refused_memory(payload):
    raise MemoryError("cannot have 7 TB")


def gate(payload):
    """Tell that it runs, then wait for a file."""
    with open(payload["started"], "a") as file:
        file.write(str(os.getpid()) + "\\n")
    while not os.path.exists(payload["gate"]):
        time.sleep(0.005)


def parent_of(payload):
    """Start a process in the background, tell its id and end or stay."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)
    if payload["stay"]:
        time.sleep(600)


def talk(payload):
    """A line for each file that appears: 0, 1, ..."""
    for at in range(payload["lines"]):
        while not os.path.exists(os.path.join(payload["folder"], str(at))):
            time.sleep(0.005)
        print("line", at)


def environment(payload):
    print(os.getcwd(), os.environ["OMP_NUM_THREADS"], os.getpgrp() == os.getpid(), os.path.basename(__file__))
'''


class Bench:
    """One cluster: dispatchers on it, a project whose module `entries` its steps run, and ways to wait."""

    def __init__(self, folder: Path, open_cluster: Callable[[int], Cluster]) -> None:
        self.folder, self._open = folder, open_cluster
        self._opened: list[Cluster] = []
        self._names = iter(range(10_000))
        folder.joinpath("entries.py").write_text(ENTRIES)

    def cluster(self, max_parallel: int = 2) -> Any:
        """Another dispatcher on the same cluster."""
        self._opened.append(self._open(max_parallel))
        return self._opened[-1]

    def spec(self, function: str, payload: dict[str, Any] | None = None, **other: Any) -> StepSpec:
        """A step of run `r1` with a token of its own; wall_s and memory_mb go to its resources."""
        limits = {name: other.pop(name) for name in ("wall_s", "memory_mb", "cpus") if name in other}
        name = other.pop("name", f"{function}-{next(self._names)}")
        fields: dict[str, Any] = {"run": "r1", "token": name, "entry": f"entries:{function}", "payload": payload or {}}
        return StepSpec(name=name, folder=str(self.folder), resources=Resources(**limits), **{**fields, **other})

    def gated(self, name: str = "a", **other: Any) -> StepSpec:
        """A step that writes its process id to `<name>.started` and runs until `open(name)`."""
        payload = {"started": str(self.folder / f"{name}.started"), "gate": str(self.folder / f"{name}.gate")}
        return self.spec("gate", payload, **other)

    def started(self, name: str = "a", count: int = 1) -> list[int]:
        """The process ids of the gated steps of that name, as soon as there are so many."""
        path = self.folder / f"{name}.started"
        self.until(lambda: path.exists() and path.read_text().count("\n") >= count)
        return [int(line) for line in path.read_text().split()]

    def open(self, name: str = "a") -> None:
        """Let the gated steps of that name end."""
        self.folder.joinpath(f"{name}.gate").touch()

    def run(self, cluster: Cluster, spec: StepSpec) -> Outcome:
        """Dispatch a step and wait for its end."""
        outcome = cluster.wait(cluster.dispatch(spec), HANG_S)
        assert outcome.status.ended, outcome
        return outcome

    def log(self, cluster: Cluster, step: str) -> str:
        """The whole log of a step so far."""
        return b"".join(cluster.logs(step)).decode()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until something that only the outside world can tell is so."""
        end = time.monotonic() + HANG_S
        while not true():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.005)

    def alive(self, pid: int) -> bool:
        """Whether a process exists and is no zombie."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def close(self) -> None:
        """Close every dispatcher."""
        for cluster in self._opened:
            cluster.close()


def local(state: Path) -> Callable[[int], Cluster]:
    """The embedded cluster as it is by default: cgroups hold memory where they may be made."""
    return lambda max_parallel: LocalCluster(state, max_parallel)


def sampled(state: Path) -> Callable[[int], Cluster]:
    """The embedded cluster where no cgroup may be made."""
    return lambda max_parallel: LocalCluster(state, max_parallel, cgroups=False)


@pytest.fixture(params=[local, sampled], ids=["local", "local sampled"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A bench on the adapter; its dispatchers are closed in the end, and none of its threads is left."""
    before = set(threading.enumerate())
    one = Bench(tmp_path, request.param(tmp_path / ".rdv"))
    yield one
    one.close()
    until = time.monotonic() + HANG_S
    while (left := [thread for thread in threading.enumerate() if thread not in before]) and time.monotonic() < until:
        time.sleep(0.005)
    assert not left
