"""Steps on a real Nomad cluster, beyond the port's contract: what happens when parts of the cluster go away or lack."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.ports import Status
from rdv.errors import NotAuthorised, NotFound, Unreachable

pytestmark = pytest.mark.live
HANG_S = 180.0


class Scene:
    """A namespace, projects in it, and the bench whose steps they run."""

    def __init__(self, nomad: Any, benches: Any) -> None:
        self.nomad, self.servers = nomad, nomad.servers
        self.bench = benches.Bench(nomad.folder, benches.Member(lambda max_parallel: nomad.cluster(), lambda fit: 256))
        self.cluster = nomad.cluster

    def crash_agent(self) -> None:
        """Kill the node's agent alone: what collects a step's output is a process of its own, which must be spared."""
        os.kill(self.servers.client.pid, signal.SIGKILL)


@pytest.fixture
def scene(nomad_bench: Callable[[Path], Any], cluster_benches: Any, tmp_path: Path) -> Iterator[Scene]:
    """A namespace of its own on the session's cluster."""
    one = Scene(nomad_bench(tmp_path), cluster_benches)
    yield one
    one.nomad.end()


@pytest.fixture
def own(
    live_server: Callable[..., Any], cluster_benches: Any, tmp_path: Path, no_nomad_environment: None
) -> Iterator[Scene]:
    """A cluster that the test may break."""
    servers = live_server("nomad:NomadServers", "nomad")
    servers.start()
    yield Scene(cluster_benches.OnNomad(tmp_path, servers, "own"), cluster_benches)
    servers.close()


def test_no_token_reaches_a_step(scene: Scene) -> None:
    """The tokens that Nomad hands out are not in the environment of a step."""
    cluster = scene.cluster()
    outcome = scene.bench.run(cluster, scene.bench.spec("tokens"))
    assert scene.bench.log(cluster, outcome.step) == "[]\n"


def test_a_token_runs_once_for_two_projects(scene: Scene) -> None:
    """Dispatchers of two projects with one token: one process, both are told its end; after it the token runs anew."""
    bench, cluster, other = scene.bench, scene.cluster(), scene.cluster("other")
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
    assert len(bench.started()) == 1
    assert bench.run(other, spec).joined is False
    assert len(bench.started()) == 2


def test_threads_that_dispatch_one_token(scene: Scene) -> None:
    """Eight threads of one dispatcher that dispatch one token at once get one step, which runs once."""
    bench, cluster = scene.bench, scene.cluster()
    spec, found = bench.gated(token="model-7"), []
    threads = [threading.Thread(target=lambda: found.append(cluster.dispatch(spec))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    bench.started()
    bench.open()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert cluster.wait(found[0], HANG_S).status is Status.SUCCEEDED
    assert len([job for job in scene.nomad.jobs() if job["ParentID"]]) == 1


def test_a_dispatch_whose_answer_is_lost_runs_once(scene: Scene, faulty_proxy: Callable[..., Any]) -> None:
    """A dispatch that was done although its answer was lost is found again, and is no other's step."""
    bench, proxy = scene.bench, faulty_proxy(scene.servers.port, only="POST")
    cluster = scene.cluster(address=proxy.address)
    bench.run(cluster, bench.spec("say", {"text": "registers the job"}))
    proxy.faults.append("cut after")
    step = cluster.dispatch(bench.gated())
    bench.open()
    outcome = cluster.wait(step, HANG_S)
    assert (outcome.status, outcome.joined, len(bench.started())) == (Status.SUCCEEDED, False, 1)
    proxy.faults.extend(["cut before"] * 10)
    with pytest.raises(Unreachable):
        cluster.dispatch(bench.gated("b"))


def test_a_step_that_fits_later_waits(scene: Scene) -> None:
    """A step that finds no room now is queued, and its reason says what is lacking."""
    bench, cluster, whole = scene.bench, scene.cluster(), scene.servers.memory_mb
    first = cluster.dispatch(bench.gated(memory_mb=whole))
    bench.started()
    second = cluster.dispatch(bench.spec("say", {"text": ""}, memory_mb=whole))
    bench.until(lambda: "memory" in cluster.wait(second, 0).reason)
    found = cluster.wait(second, 0)
    assert found.status is Status.QUEUED
    assert found.reason.startswith("the cluster is full: memory")
    bench.open()
    assert {cluster.wait(one, HANG_S).status for one in (first, second)} == {Status.SUCCEEDED}


def test_a_step_that_can_never_fit_fails(scene: Scene) -> None:
    """A step that asks for more than any node has fails at once, with what it asks for and what there is."""
    bench, cluster = scene.bench, scene.cluster()
    outcome = bench.run(cluster, bench.spec("say", {"text": ""}, memory_mb=1_000_000))
    assert outcome.status is Status.FAILED
    assert outcome.reason == f"it needs 1,000,000 MB of memory, the largest node has {scene.servers.memory_mb:,}"
    outcome = bench.run(cluster, bench.spec("say", {"text": ""}, cpus=1000))
    assert "MHz of processor" in outcome.reason
    assert [job["Status"] for job in scene.nomad.jobs() if job["ParentID"]] == ["dead", "dead"]


def test_a_driver_that_no_node_has_fails(scene: Scene) -> None:
    """A step for a driver that is on no node fails at once, and is not left queued."""
    cluster = scene.cluster(driver="docker", image="nobody/has:1")
    outcome = scene.bench.run(cluster, scene.bench.spec("say", {"text": ""}))
    assert outcome.status is Status.FAILED
    assert outcome.reason.startswith("no node can run it: missing drivers")


def test_a_wait_for_a_template_ends(scene: Scene) -> None:
    """A step that waits for a key which does not come is queued with the key's name, and fails after its time."""
    bench, cluster = scene.bench, scene.cluster(template_s="4")
    bench.run(cluster, bench.spec("say", {"text": "registers the job"}))
    (parent,) = [job["ID"] for job in scene.nomad.jobs() if not job["ParentID"]]
    job = scene.nomad.call("GET", f"/v1/job/{parent}").json()
    template = '{{ with nomadVar "nomad/jobs/absent" }}{{ .key }}{{ end }}'
    job["TaskGroups"][0]["Tasks"][0]["Templates"] = [{"EmbeddedTmpl": template, "DestPath": "local/key"}]
    assert scene.nomad.call("POST", f"/v1/job/{parent}", {"Job": job}).ok
    step = cluster.dispatch(bench.spec("say", {"text": ""}))
    bench.until(lambda: "nomad/jobs/absent" in cluster.wait(step, 0).reason)
    assert cluster.wait(step, 0).status in (Status.QUEUED, Status.FAILED)
    outcome = cluster.wait(step, HANG_S)
    assert outcome.status is Status.FAILED
    assert outcome.reason.startswith("after 4 s it was still waiting on a template")
    assert "nomad/jobs/absent" in outcome.reason


def test_outcomes_outlive_nomads_record(scene: Scene) -> None:
    """An outcome that was seen stays when the job is purged; one that nobody saw in time is lost, and said to be."""
    bench, cluster = scene.bench, scene.cluster()
    seen = bench.run(cluster, bench.spec("leave", {"code": 3}))
    unseen = cluster.dispatch(bench.gated())
    bench.started()
    for job in scene.nomad.jobs():
        scene.nomad.call("DELETE", f"/v1/job/{job['ID']}?purge=true")
    assert cluster.wait(unseen, HANG_S).status is Status.LOST
    found = scene.cluster().steps("r1")
    assert list(found) == [seen.step, unseen]
    assert found[seen.step] == seen
    with pytest.raises(NotFound):
        cluster.wait("r1.nothing-0123456789abc")


def test_a_token_that_may_not_is_refused(scene: Scene) -> None:
    """A token that may not dispatch is NotAuthorised, and is not shown."""
    weak = scene.servers.new_token("weak", 'namespace "default" { policy = "read" }')
    (scene.nomad.folder / "token").write_text(weak)
    with pytest.raises(NotAuthorised) as caught:
        scene.cluster().dispatch(scene.bench.spec("say", {"text": ""}))
    assert weak not in repr(caught.value)


def test_two_clusters_by_environment(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place with an address is served by that cluster, whatever Nomad's own variables name."""
    monkeypatch.setenv("NOMAD_ADDR", "http://127.0.0.1:9")
    monkeypatch.setenv("NOMAD_REGION", "elsewhere")
    monkeypatch.setenv("NOMAD_NAMESPACE", "elsewhere")
    monkeypatch.setenv("NOMAD_TOKEN", "nobody's")
    outcome = scene.bench.run(scene.cluster(), scene.bench.spec("say", {"text": ""}))
    assert outcome.status is Status.SUCCEEDED


def test_logs_go_on_over_a_restart_of_the_node(own: Scene) -> None:
    """A log is followed while its node's agent is away: no line is lost, none comes twice, it ends with the step."""
    bench, cluster = own.bench, own.cluster()
    (bench.folder / "0").touch()
    step, text = cluster.dispatch(bench.spec("talk", {"folder": str(bench.folder), "lines": 4})), b""
    for chunk in cluster.logs(step, follow=True):
        text += chunk
        if text == b"line 0\n":
            own.crash_agent()
            (bench.folder / "1").touch()
            (bench.folder / "2").touch()
            own.servers.start_client()
        (bench.folder / "3").touch()
    assert text == b"".join(b"line %d\n" % at for at in range(4))
    assert cluster.wait(step, HANG_S).status is Status.SUCCEEDED


def test_a_server_that_is_killed_loses_nothing(own: Scene) -> None:
    """While the server is away a waiting caller is told so; back again, the step has gone on and its end is known."""
    bench, cluster = own.bench, own.cluster()
    step = cluster.dispatch(bench.gated())
    bench.started()
    own.servers.server.kill()
    with pytest.raises(Unreachable):
        cluster.wait(step, HANG_S)
    bench.open()
    own.servers.start_server()
    assert cluster.wait(step, HANG_S).status is Status.SUCCEEDED
    assert len(bench.started()) == 1


def test_a_node_whose_agent_is_away_loses_no_end(own: Scene) -> None:
    """A step that ends while its node's agent is killed and not yet back is told as it ended."""
    bench, cluster = own.bench, own.cluster()
    step = cluster.dispatch(bench.gated())
    bench.started()
    own.crash_agent()
    bench.open()
    own.servers.start_client()
    outcome = cluster.wait(step, HANG_S)
    assert (outcome.status, len(bench.started())) == (Status.SUCCEEDED, 1)
    assert outcome.peak_memory_bytes > 1 << 20
