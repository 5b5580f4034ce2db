"""Steps on a real Nomad cluster: how they end, tokens, logs, and what happens when parts of the cluster go away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.ports import Outcome, Resources, Status, StepSpec
from rdv.errors import NotAuthorised, NotFound, Unreachable, UsageError

pytestmark = pytest.mark.live
HANG_S = 60.0
ENTRIES = '''
import os, signal, sys, time

def say(payload):
    print("out", payload["text"])
    print("err", payload["text"], file=sys.stderr)

def leave(payload):
    sys.exit(payload["code"])

def fail(payload):
    raise ValueError("no good")

def die(payload):
    os.kill(os.getpid(), signal.SIGKILL)

def allocate(payload):
    blocks = []
    while True:
        blocks.append(b"x" * 4_000_000)

def allocate_in_children(payload):
    for _ in range(4):
        if os.fork() == 0:
            block = b"x" * (80 << 20)
            time.sleep(600)
    time.sleep(600)

def leave_behind(payload):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)
    if payload["stay"]:
        time.sleep(600)

def tokens(payload):
    print(sorted(name for name in os.environ if "TOKEN" in name and not name.startswith("PYTEST")))

def gate(payload):
    with open(payload["file"] + ".started", "a") as file:
        file.write("x")
    print("waiting", flush=True)
    while not os.path.exists(payload["file"] + ".open"):
        time.sleep(0.01)
    print("done")
'''


class Bench:
    """Dispatchers on one cluster, each with its project, and steps for them."""

    def __init__(self, folder: Path, servers: Any, namespace: str) -> None:
        self.folder, self.servers, self.namespace = folder, servers, namespace
        self._count = 0
        folder.joinpath("entries.py").write_text(ENTRIES)
        folder.joinpath("token").write_text(servers.token)
        servers.make_namespace(namespace)

    def cluster(self, project: str = "project", address: str = "") -> Any:
        """A dispatcher of a project."""
        from rdv.backends.cluster_nomad import NomadCluster

        place = f"{self.namespace}?address={address or self.servers.address}&token_file={self.folder}/token"
        return NomadCluster(self.folder / project, place)

    def spec(self, function: str, payload: dict[str, Any] | None = None, token: str = "", **limits: Any) -> StepSpec:
        """A step with a token of its own."""
        self._count += 1
        return StepSpec(
            run="r1",
            name=function,
            token=token or f"{self.namespace}-{self._count}",
            entry=f"entries:{function}",
            payload=payload or {},
            folder=str(self.folder),
            resources=Resources(**{"memory_mb": 256, **limits}),
        )

    def run(self, cluster: Any, spec: StepSpec) -> Outcome:
        """Dispatch and wait for the end."""
        outcome: Outcome = cluster.wait(cluster.dispatch(spec), HANG_S)
        assert outcome.status.ended, outcome
        return outcome

    def gated(self, name: str = "a", token: str = "", **limits: Any) -> StepSpec:
        """A step that runs until `open(name)`."""
        return self.spec("gate", {"file": str(self.folder / name)}, token, **limits)

    def started(self, name: str = "a") -> int:
        """How many gated steps of that name have begun, as soon as one has."""
        path = self.folder / f"{name}.started"
        self.until(path.exists)
        return len(path.read_text())

    def open(self, name: str = "a") -> None:
        """Let the gated steps of that name end."""
        self.folder.joinpath(f"{name}.open").touch()

    def log(self, cluster: Any, step: str) -> str:
        """A step's log so far."""
        return b"".join(cluster.logs(step)).decode()

    def until(self, true: Callable[[], object]) -> None:
        """Wait for the outside world."""
        end = time.monotonic() + HANG_S
        while not true():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.01)


@pytest.fixture
def bench(nomad_servers: Any, tmp_path: Path, no_nomad_environment: None) -> Bench:
    """A namespace of its own on the session's cluster."""
    return Bench(tmp_path, nomad_servers, f"ns-{tmp_path.parent.name}-{tmp_path.name}".replace("_", "-").lower()[:100])


@pytest.fixture
def own(live_server: Callable[..., Any], tmp_path: Path, no_nomad_environment: None) -> Iterator[Bench]:
    """A cluster that the test may break."""
    servers = live_server("nomad:NomadServers", "nomad")
    servers.start()
    yield Bench(tmp_path, servers, "own")
    servers.close()


@pytest.fixture
def no_nomad_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings for Nomad."""
    for name in ("NOMAD_ADDR", "NOMAD_TOKEN", "NOMAD_NAMESPACE", "NOMAD_REGION"):
        monkeypatch.delenv(name, raising=False)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("function", "payload", "limits", "wanted"),
    [
        ("say", {"text": "h\u00e9"}, {}, (Status.SUCCEEDED, 0, None, "")),
        ("leave", {"code": 7}, {}, (Status.FAILED, 7, None, "exit code 7")),
        ("fail", {}, {}, (Status.FAILED, 1, None, "ValueError: no good")),
        ("die", {}, {}, (Status.FAILED, None, 9, "SIGKILL")),
        ("allocate", {}, {"memory_mb": 128}, (Status.OUT_OF_MEMORY, None, 9, "128 MB")),
        ("allocate_in_children", {}, {}, (Status.OUT_OF_MEMORY, None, 9, "256 MB")),
        ("leave_behind", {"stay": True}, {"wall_s": 0.5}, (Status.TIMED_OUT, None, 9, "longer than 0.5 s")),
    ],
)
def test_ends_are_told_apart(
    bench: Bench, function: str, payload: dict[str, Any], limits: dict[str, Any], wanted: tuple[Any, ...]
) -> None:
    """Every kind of end is told as on the embedded cluster, although this driver cannot tell a want of memory."""
    outcome = bench.run(bench.cluster(), bench.spec(function, payload, **limits))
    assert (outcome.status, outcome.exit_code, outcome.signal) == wanted[:3]
    assert wanted[3] in outcome.reason
    assert outcome.peak_memory_bytes > 1 << 20


def test_a_step_leaves_nothing_behind_and_gets_no_token(bench: Bench) -> None:
    """What a step started in the background ends with it, and the tokens that Nomad hands out do not reach it."""
    cluster = bench.cluster()
    outcome = bench.run(cluster, bench.spec("leave_behind", {"stay": False}))
    assert not alive(int(bench.log(cluster, outcome.step)))
    outcome = bench.run(cluster, bench.spec("tokens"))
    assert bench.log(cluster, outcome.step) == "[]\n"


def test_a_token_runs_once(bench: Bench) -> None:
    """Dispatchers of two projects with one token: one process, both are told its end; after it the token runs anew."""
    cluster, other = bench.cluster(), bench.cluster("other")
    spec = bench.gated(token="model-7")
    one, again = cluster.dispatch(spec), cluster.dispatch(spec)
    bench.started()
    two = other.dispatch(spec)
    bench.open()
    first, second = cluster.wait(one, HANG_S), other.wait(two, HANG_S)
    assert one == again
    assert (first.status, first.joined, second.status, second.joined) == (
        Status.SUCCEEDED, False, Status.SUCCEEDED, True,
    )  # fmt: skip
    assert bench.started() == 1
    assert bench.run(other, spec).joined is False
    assert bench.started() == 2


def test_a_dispatch_whose_answer_is_lost_runs_once(bench: Bench, faulty_proxy: Callable[..., Any]) -> None:
    """A dispatch that was done although its answer was lost is found again, and is no other's step."""
    proxy = faulty_proxy(bench.servers.port, only="POST")
    cluster = bench.cluster(address=proxy.address)
    bench.run(cluster, bench.spec("say", {"text": "registers the job"}))
    proxy.faults.append("cut after")
    step = cluster.dispatch(bench.gated())
    bench.open()
    outcome = cluster.wait(step, HANG_S)
    assert (outcome.status, outcome.joined, bench.started()) == (Status.SUCCEEDED, False, 1)
    proxy.faults.extend(["cut before"] * 10)
    with pytest.raises(Unreachable):
        cluster.dispatch(bench.gated("b"))


def test_cancelling(bench: Bench) -> None:
    """A cancelled step ends with the reason, by whomever; one that joined is left alone; an ended one stays."""
    cluster, other = bench.cluster(), bench.cluster("other")
    spec = bench.gated()
    step, joined = cluster.dispatch(spec), other.dispatch(spec)
    bench.started()
    other.cancel(joined, "impatient")
    assert other.wait(joined, HANG_S).reason == "impatient"
    cluster.cancel(step, "changed my mind")
    outcome = cluster.wait(step, HANG_S)
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "changed my mind")
    cluster.cancel(step, "too late")
    assert bench.cluster().wait(step, 0) == outcome


def test_a_full_cluster_queues(bench: Bench) -> None:
    """A step that finds no room is queued, with what is lacking; cancelled, it never runs."""
    cluster = bench.cluster()
    step = cluster.dispatch(bench.spec("say", {"text": ""}, memory_mb=1_000_000))
    bench.until(lambda: "memory" in cluster.wait(step, 0).reason)
    assert cluster.wait(step, 0).status is Status.QUEUED
    cluster.cancel(step, "too large")
    assert cluster.wait(step, HANG_S).status is Status.CANCELLED


def test_logs_follow_the_step(bench: Bench) -> None:
    """Following a log gives lines as they are written, and ends with the step."""
    cluster = bench.cluster()
    step, text = cluster.dispatch(bench.gated()), b""
    for chunk in cluster.logs(step, follow=True):
        text += chunk
        bench.open()
    assert text == b"waiting\ndone\n"


def test_outcomes_outlive_nomads_record(bench: Bench) -> None:
    """An outcome that was seen stays when the job is purged; one that nobody saw in time is lost, and said to be."""
    cluster = bench.cluster()
    seen = bench.run(cluster, bench.spec("leave", {"code": 3}))
    unseen = cluster.dispatch(bench.gated())
    bench.started()
    for job in bench.servers.call("GET", f"/v1/jobs?namespace={bench.namespace}").json():
        bench.servers.call("DELETE", f"/v1/job/{job['ID']}?purge=true&namespace={bench.namespace}")
    assert cluster.wait(unseen, HANG_S).status is Status.LOST
    found = bench.cluster().steps("r1")
    assert list(found) == [seen.step, unseen]
    assert found[seen.step] == seen
    with pytest.raises(NotFound):
        cluster.wait("r1.nothing-0123456789abc")


def test_what_is_refused(bench: Bench) -> None:
    """A payload that does not fit is a usage error, a token that may not is NotAuthorised and not shown."""
    cluster = bench.cluster()
    noise = "".join(chr(33 + i * i * 7919 % 90) + chr(161 + i * 104729 % 300) for i in range(8000))
    with pytest.raises(UsageError):
        cluster.dispatch(bench.spec("say", {"text": noise}))
    weak = bench.servers.new_token("weak", 'namespace "default" { policy = "read" }')
    (bench.folder / "token").write_text(weak)
    with pytest.raises(NotAuthorised) as caught:
        bench.cluster().dispatch(bench.spec("say", {"text": ""}))
    assert weak not in repr(caught.value)


def test_a_server_that_is_killed_loses_nothing(own: Bench) -> None:
    """While the server is away a waiting caller is told so; back again, the step has gone on and its end is known."""
    cluster = own.cluster()
    step = cluster.dispatch(own.gated())
    own.started()
    own.servers.server.kill()
    with pytest.raises(Unreachable):
        cluster.wait(step, HANG_S)
    own.open()
    own.servers.start_server()
    assert cluster.wait(step, HANG_S).status is Status.SUCCEEDED
    assert own.started() == 1


def test_a_node_whose_agent_is_away_loses_no_end(own: Bench) -> None:
    """A step that ends while its node's agent is killed and not yet back is told as it ended."""
    cluster = own.cluster()
    step = cluster.dispatch(own.gated())
    own.started()
    own.servers.client.kill()
    own.open()
    own.servers.start_client()
    outcome = cluster.wait(step, HANG_S)
    assert (outcome.status, own.started()) == (Status.SUCCEEDED, 1)


def test_many_wait_at_once(bench: Bench) -> None:
    """A thread for each of twelve steps waits for it, and each gets its own outcome."""
    cluster, found = bench.cluster(), {}

    def run(code: int) -> None:
        found[code] = bench.run(cluster, bench.spec("leave", {"code": code}, memory_mb=64)).exit_code

    threads = [threading.Thread(target=run, args=(code,)) for code in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * HANG_S)
    assert found == {code: code for code in range(12)}
