"""The embedded cluster when its own processes are killed, stopped or cannot start: nothing survives, nothing hangs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rdv.backends.local.cluster import LocalCluster
from rdv.backends.local.memory import children, memory_groups
from rdv.backends.ports import Outcome, Resources, Status, StepSpec

HANG_S = 180.0

ENTRIES = '''
import os, subprocess, sys, time

def family(payload):
    """A step with a forked child, a process of its own making and a daemon in another session."""
    pids = [os.getpid()]
    child = os.fork()
    if child == 0:
        time.sleep(600)
    pids.append(child)
    pids.append(subprocess.Popen(["sleep", "600"]).pid)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            time.sleep(600)
        os.write(writing, str(daemon).encode())
        os._exit(0)
    pids.append(int(os.read(reading, 20)))
    with open(payload["pids"] + ".new", "w") as file:
        file.write(" ".join(map(str, pids)))
    os.rename(payload["pids"] + ".new", payload["pids"])
    if payload.get("stay", True):
        time.sleep(600)

def nothing(payload):
    pass

def loaded(payload):
    print("numpy" in sys.modules)
    import numpy

def threads(payload):
    import lightgbm, numpy
    x = numpy.random.default_rng(0).normal(size=(2000, 10))
    data = lightgbm.Dataset(x, x[:, 0] > 0)
    lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 2}, data, 20)
    print("trained")
'''

DISPATCHER = """
import sys
from pathlib import Path
from rdv.backends.local.cluster import LocalCluster
from rdv.backends.ports import StepSpec
folder = Path(sys.argv[1])
cluster = LocalCluster(folder / ".rdv", 1, cgroups=sys.argv[2] == "True")
payload = {"pids": str(folder / "pids")}
step = cluster.dispatch(StepSpec(run="r1", name="f", token="t", entry="entries:family", payload=payload,
                                 folder=str(folder)))
cluster.dispatch(StepSpec(run="r1", name="n", token="u", entry="entries:nothing", payload={}, folder=str(folder)))
print(step, flush=True)
if sys.argv[3] == "stay":
    cluster.wait(step)
while not (folder / "pids").exists():
    pass
"""

# in a process of its own: this one's files and threads are also those of the tests that ran before
MEASURED = """
import json, os, sys
from pathlib import Path
from rdv.backends.local.cluster import LocalCluster
from rdv.backends.local.memory import children
from rdv.backends.ports import Status, StepSpec

def resources_of(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")), pages * os.sysconf("SC_PAGE_SIZE")

folder = sys.argv[1]
with LocalCluster(Path(folder) / ".rdv", 2) as cluster:
    for first, end in ((0, 50), (50, 300)):
        specs = [StepSpec(run="r1", name="n", token=str(at), entry="entries:nothing", payload={}, folder=folder)
                 for at in range(first, end)]
        for step in [cluster.dispatch(spec) for spec in specs]:
            assert cluster.wait(step, 60.0).status is Status.SUCCEEDED
        (server,) = (pid for pid in children(os.getpid()) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes())
        print(json.dumps([resources_of(pid) for pid in (os.getpid(), server)]), flush=True)
"""


@pytest.fixture(params=[True, False], ids=["cgroup", "sampled"])
def cgroups(request: pytest.FixtureRequest) -> bool:
    """Whether memory cgroups may be used."""
    return bool(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project folder with entries."""
    tmp_path.joinpath("entries.py").write_text(ENTRIES)
    return tmp_path


@pytest.fixture
def cluster(folder: Path, cgroups: bool) -> Iterator[LocalCluster]:
    """A dispatcher in this process, for one step at a time."""
    with LocalCluster(folder / ".rdv", 1, cgroups=cgroups) as one:
        yield one


def spec(folder: Path, entry: str, token: str = "", wall_s: float = HANG_S, **payload: object) -> StepSpec:
    """A step of run r1."""
    name = token or f"{entry}-{time.monotonic_ns()}"
    values = {"pids": str(folder / "pids"), **payload}
    limits = Resources(wall_s=wall_s, cpus=2)
    return StepSpec(
        run="r1", name=name, token=name, entry=f"entries:{entry}", payload=values, resources=limits, folder=str(folder)
    )


def until(true: Callable[[], bool]) -> None:
    """Wait until something that only the outside world can tell is so."""
    end = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pids(folder: Path) -> list[int]:
    """The processes of the `family` step, as soon as they exist."""
    until(lambda: folder.joinpath("pids").exists())
    return [int(pid) for pid in folder.joinpath("pids").read_text().split()]


def fork_server(parent: int) -> int:
    """The fork server of a dispatcher process."""
    (server,) = (pid for pid in children(parent) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return server


class Dispatcher:
    """A dispatcher in a process of its own with one `family` step that runs and one step that queues."""

    def __init__(self, folder: Path, cgroups: bool, mode: str = "stay") -> None:
        command = [sys.executable, "-c", DISPATCHER, str(folder), str(cgroups), mode]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.step = self.process.stdout.readline().strip()
        self.process.stdout.close()
        self.pids = pids(folder)


def test_a_killed_dispatcher_leaves_nothing(folder: Path, cgroups: bool, cluster: LocalCluster) -> None:
    """kill -9 of the dispatcher ends its steps with all they started; who had joined is told at once that it is lost

    and can run it; the queued step is lost as well.
    """
    one = Dispatcher(folder, cgroups)
    joined = cluster.dispatch(spec(folder, "family", token="t"))
    server = fork_server(one.process.pid)
    one.process.kill()
    one.process.wait()
    outcome = cluster.wait(joined, HANG_S)
    assert (outcome.status, outcome.joined) == (Status.LOST, True)
    until(lambda: not any(map(alive, [*one.pids, server])))
    assert [outcome.status for outcome in cluster.steps("r1").values()] == [Status.LOST] * 3
    again = cluster.wait(cluster.dispatch(spec(folder, "nothing", token="t")), HANG_S)
    assert (again.status, again.joined) == (Status.SUCCEEDED, False)


def test_a_killed_fork_server_leaves_nothing(folder: Path, cluster: LocalCluster) -> None:
    """kill -9 of the fork server ends its steps with all they started and tells so; the queue goes on with another."""
    first = cluster.dispatch(spec(folder, "family"))
    second = cluster.dispatch(spec(folder, "nothing"))
    family = pids(folder)
    server = fork_server(os.getpid())
    os.kill(server, signal.SIGKILL)
    outcome = cluster.wait(first, HANG_S)
    assert outcome.status is Status.LOST
    assert "SIGKILL" in outcome.reason
    assert cluster.wait(second, HANG_S).status is Status.SUCCEEDED
    in_groups = family if memory_groups() and cluster._cgroups else family[:3]  # a daemon is found by cgroup only
    until(lambda: not any(map(alive, in_groups)))
    for pid in set(family) - set(in_groups):
        os.kill(pid, signal.SIGKILL)


def test_both_killed_at_once(folder: Path, cgroups: bool) -> None:
    """When dispatcher and fork server are killed together the kernel ends the step; the next one sweeps its group."""
    one = Dispatcher(folder, cgroups)
    server = fork_server(one.process.pid)
    for pid in (one.process.pid, server):
        os.kill(pid, signal.SIGSTOP)
    for pid in (server, one.process.pid):
        os.kill(pid, signal.SIGKILL)
    one.process.wait()
    until(lambda: not alive(one.pids[0]))
    with LocalCluster(folder / ".rdv", 1) as cluster:
        assert cluster.wait(one.step, HANG_S).status is Status.LOST
        assert cluster.wait(cluster.dispatch(spec(folder, "nothing")), HANG_S).status is Status.SUCCEEDED
        if cgroups and memory_groups():
            until(lambda: not any(map(alive, one.pids)))
    for pid in filter(alive, one.pids):  # without cgroups only the step's own process is certain to go
        os.kill(pid, signal.SIGKILL)


def test_a_dispatcher_that_just_ends_leaves_nothing(folder: Path, cgroups: bool) -> None:
    """A dispatcher that exits without closing its cluster leaves no process, and its steps are lost."""
    one = Dispatcher(folder, cgroups, mode="leave")
    assert one.process.wait(HANG_S) == 0
    until(lambda: not any(map(alive, one.pids)))
    with LocalCluster(folder / ".rdv", 1) as cluster:
        assert cluster.wait(one.step, HANG_S).status is Status.LOST


def test_a_stopped_step_meets_its_wall_limit(folder: Path, cluster: LocalCluster) -> None:
    """A step that is stopped (SIGSTOP) is ended by its wall clock limit."""
    step = cluster.dispatch(spec(folder, "family", wall_s=1.0))
    family = pids(folder)
    os.kill(family[0], signal.SIGSTOP)
    outcome = cluster.wait(step, HANG_S)
    assert outcome.status is Status.TIMED_OUT
    until(lambda: not any(map(alive, family)))


def test_a_daemon_ends_with_its_step(folder: Path, cluster: LocalCluster) -> None:
    """A descendant that fled into another session is gone once its step has succeeded and nothing else runs."""
    assert cluster.wait(cluster.dispatch(spec(folder, "family", stay=False)), HANG_S).status is Status.SUCCEEDED
    assert not any(map(alive, pids(folder)))


def test_a_restarted_dispatcher_settles_what_was_lost(folder: Path, cgroups: bool) -> None:
    """Steps whose dispatcher was killed read as lost, once and for all, in whichever process looks."""
    one = Dispatcher(folder, cgroups)
    one.process.kill()
    one.process.wait()
    found: list[dict[str, Outcome]] = []
    for _ in range(2):
        with LocalCluster(folder / ".rdv", 1) as cluster:
            until(lambda: all(outcome.status.ended for outcome in cluster.steps("r1").values()))
            found.append(dict(cluster.steps("r1")))
    assert found[0] == found[1]
    assert [outcome.status for outcome in found[0].values()] == [Status.LOST] * 2


def test_training_with_threads_does_not_hang(folder: Path) -> None:
    """LightGBM trains with two threads in a step forked from a server that has it imported, one after the other."""
    with LocalCluster(folder / ".rdv", 2, preload=("lightgbm",)) as cluster:
        steps = [cluster.dispatch(spec(folder, "threads")) for _ in range(4)]
        assert [cluster.wait(step, HANG_S).status for step in steps] == [Status.SUCCEEDED] * 4
        assert {b"".join(cluster.logs(step)) for step in steps} == {b"trained\n"}


def test_the_fork_server_has_one_thread(folder: Path, require: Callable[..., str]) -> None:
    """Whatever a step may need imported leaves the fork server with one thread, without which forking is not safe."""
    modules = ("numpy", "scipy", "lightgbm", "luigi", require("catboost"), require("pyarrow"), require("pandas"))
    with LocalCluster(folder / ".rdv", 1, preload=modules) as cluster:
        assert cluster.wait(cluster.dispatch(spec(folder, "nothing")), HANG_S).status is Status.SUCCEEDED
        server = fork_server(os.getpid())
        assert len(os.listdir(f"/proc/{server}/task")) == 1
        assert "lightgbm" in Path(f"/proc/{server}/maps").read_text()


def test_the_fork_server_learns(folder: Path, cluster: LocalCluster) -> None:
    """What a step had to import is there when the next one starts; the project's own modules are read anew."""
    steps = [cluster.dispatch(spec(folder, "loaded")) for _ in range(2)]
    assert all(cluster.wait(step, HANG_S).status is Status.SUCCEEDED for step in steps)
    assert [b"".join(cluster.logs(step)) for step in steps] == [b"False\n", b"True\n"]
    folder.joinpath("entries.py").write_text("def loaded(payload):\n    print('another text')\n")
    step = cluster.dispatch(spec(folder, "loaded"))
    assert cluster.wait(step, HANG_S).status is Status.SUCCEEDED
    assert b"".join(cluster.logs(step)) == b"another text\n"


@pytest.mark.parametrize(("program", "reason"), [("/nonexistent", "cannot be started"), ("/bin/false", "code 1")])
def test_a_server_that_cannot_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    """When there is no fork server to be had every step is lost, with the reason, and nobody waits for ever."""
    with LocalCluster(folder / ".rdv", 1) as cluster:
        monkeypatch.setattr(sys, "executable", program)
        steps = [cluster.dispatch(spec(folder, "nothing")) for _ in range(3)]
        outcomes = [cluster.wait(step, HANG_S) for step in steps]
        assert [outcome.status for outcome in outcomes] == [Status.LOST] * 3
        assert reason in outcomes[0].reason
        monkeypatch.undo()
        assert cluster.wait(cluster.dispatch(spec(folder, "nothing")), HANG_S).status is Status.SUCCEEDED


def test_a_dispatcher_does_not_grow(folder: Path) -> None:
    """Between 50 and 300 steps neither files nor threads nor, to speak of, memory of dispatcher and server grow."""
    ran = subprocess.run([sys.executable, "-c", MEASURED, str(folder)], capture_output=True, text=True, check=True)
    before, after = map(json.loads, ran.stdout.splitlines())
    for (files, threads, memory), (files_later, threads_later, memory_later) in zip(before, after, strict=True):
        assert (files_later, threads_later) == (files, threads)
        assert memory_later - memory < 3 << 20


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.01, 0.05, 0.2])
def test_a_dispatcher_killed_at_any_moment(folder: Path, cgroups: bool, delay_s: float) -> None:
    """However soon after its start a dispatcher is killed, its token is free soon after, and no process stays."""
    command = [sys.executable, "-c", DISPATCHER, str(folder), str(cgroups), "stay"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay_s)
        process.kill()
    with LocalCluster(folder / ".rdv", 1) as cluster:

        def again() -> bool:
            outcome = cluster.wait(cluster.dispatch(spec(folder, "nothing", token="t")), HANG_S)
            return outcome.status is Status.SUCCEEDED and not outcome.joined

        until(again)
