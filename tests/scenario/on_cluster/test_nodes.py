"""A pipeline as a job, and the node that it runs on: its agent killed and back, the node lost, the node drained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.devcluster import leftovers
from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.nomad_config import client_config
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, find_program, write_private

pytestmark = pytest.mark.live
MODEL = "visit/m"


class Nodes:
    """A Nomad cluster of a test's own whose node may go away, with another node to come; and a town on it."""

    def __init__(self, nomad: Any, folder: Path, environ: dict[str, str]) -> None:
        self.nomad, self.folder = nomad, folder
        self._ports, self._cgroup = Ports(3), f"rdv-second-{nomad.port}"
        ports = self._ports.numbers
        config = client_config("batch", folder / "client", ports, nomad.server_rpc, 4096, cgroup=self._cgroup)
        folder.mkdir()
        write_private(folder / "client.hcl", config.replace('name       = "batch"', 'name       = "second"'))
        argv = [str(find_program("nomad", environ)), "agent", f"-config={folder / 'client.hcl'}"]
        self.second = ServerProcess("nomad-second", argv, clean_environment(environ), folder / "client.log")

    def add(self) -> None:
        """Start the second node and wait until work can be placed on it."""
        self.second.start()
        self.second.until(lambda: len(self.ready()) == 2, "ready")

    def ready(self) -> list[str]:
        """The ids of the nodes that take work."""
        return [
            one["ID"] for one in self.nomad.call("GET", "/v1/nodes").json()
            if one["Status"] == "ready" and one["SchedulingEligibility"] == "eligible"
        ]  # fmt: skip

    def lose(self) -> None:
        """Have the first node be gone at once, with all that runs on it."""
        self.nomad.client.kill()
        self.nomad.clear()

    def close(self) -> None:
        """End the second node and all that runs on it."""
        self.nomad.purge()
        self.second.stop()
        leftovers.kill([*leftovers.task_processes(self.folder), *leftovers.log_collectors(self.folder)])
        leftovers.unmount(self.folder)
        leftovers.remove_cgroups(self._cgroup)
        self._ports.close()


@pytest.fixture
def nomad(live_server: Callable[..., Any]) -> Iterator[Any]:
    """A Nomad that the test may break."""
    made = live_server("nomad:NomadServers", "nomad")
    made.start()
    yield made
    made.close()


@pytest.fixture
def nodes(nomad: Any, tmp_path: Path, environ: dict[str, str]) -> Iterator[Nodes]:
    """Its nodes."""
    made = Nodes(nomad, tmp_path / "second", environ)
    yield made
    made.close()


@pytest.fixture
def town(
    nomad: Any, consul_server: Any, s3_server: Any, towns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A project whose steps and pipelines run there."""
    return towns.make_town(nomad, consul_server, s3_server, tmp_path, monkeypatch)


def begin(town: Any) -> str:
    """Begin a pipeline as a job and wait until both its steps are at work."""
    town.mark("hold")
    run = town.rdv("train", MODEL, "-P", "offset=1.0,2.0", "--on-cluster", "--detach", "-o", "json")["run"]
    town.until(lambda: len(town.trained()) == 2)
    return str(run)


def end(town: Any, run: str) -> Any:
    """Let the steps end, and how the run did."""
    town.mark("go")
    return town.rdv("runs", "wait", run, "-o", "json")


def test_an_agent_is_killed_and_comes_back(town: Any, nomad: Any) -> None:
    """While the agent is dead the pipeline and its steps go on and end; back, it tells so: one start, no step twice."""
    run = begin(town)
    nomad.client.kill()
    town.mark("go")
    times = town.folder / "times"
    town.until(lambda: times.exists() and len(times.read_text().splitlines()) == 2)
    nomad.start_client()
    ended = end(town, run)
    assert (ended["state"], ended["starts"], ended["exit_code"]) == ("done", 1, 0)
    assert town.trained() == [1.0, 2.0]


def test_a_lost_node_costs_what_ran_on_it(town: Any, nodes: Nodes) -> None:
    """The pipeline is started on another node, dispatches again what was lost with the first one, and ends well."""
    run = begin(town)
    nodes.add()
    nodes.lose()
    town.until(lambda: len(town.trained()) == 4)
    ended = end(town, run)
    assert (ended["state"], ended["starts"], ended["exit_code"]) == ("done", 2, 0)
    assert town.trained() == [1.0, 1.0, 2.0, 2.0]


def test_a_drained_node_ends_its_pipeline(town: Any, nodes: Nodes, nomad: Any) -> None:
    """A pipeline that has to leave its node ends its steps and is interrupted, as Nomad starts no batch job again that

    was drained; the same command again makes the rest, on the other node.
    """
    run = begin(town)
    [node] = nodes.ready()
    nodes.add()
    drain = {"DrainSpec": {"Deadline": -1, "IgnoreSystemJobs": True}, "MarkEligible": False}
    assert nomad.call("POST", f"/v1/node/{node}/drain", drain).ok
    ended = town.rdv("runs", "wait", run, "-o", "json", code=130)
    assert (ended["state"], ended["starts"]) == ("interrupted", 1)
    town.until(lambda: not town.live_steps())
    town.mark("go")
    again = town.rdv("train", MODEL, "-P", "offset=1.0,2.0", "--on-cluster", "-o", "json")
    assert (again["state"], again["trained"]) == ("done", 2)


def test_steps_of_a_drained_node_are_dispatched_again(town: Any, nodes: Nodes, nomad: Any) -> None:
    """A pipeline elsewhere takes a step that had to leave a node for lost, not for cancelled, and tries it again."""
    town.mark("hold")
    process = town.start("train", MODEL, "-P", "offset=1.0", "--set", "train.retries=1", "-o", "json")
    town.until(town.trained)
    [node] = nodes.ready()
    nodes.add()
    drain = {"DrainSpec": {"Deadline": -1, "IgnoreSystemJobs": True}, "MarkEligible": False}
    assert nomad.call("POST", f"/v1/node/{node}/drain", drain).ok
    town.until(lambda: len(town.trained()) == 2)
    town.mark("go")
    assert town.ended(process)["state"] == "done"
    assert town.trained() == [1.0, 1.0]
