"""A host of a cluster that is gone at once, with the gateway and the worker on it, while requests are answered."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select
from rdv.backends.devcluster import leftovers
from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.consul import ConsulServer
from rdv.backends.devcluster.environments import SERVICES, auth_name
from rdv.backends.devcluster.nomad_config import Links, client_config
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, find_program, write_private
from rdv.settings import load_project

pytestmark = pytest.mark.live
MODEL = "visit/m"


class Host:
    """A second host of the services cluster: a Nomad client and the Consul agent that is its own."""

    def __init__(self, servers: Any, folder: Path, environ: dict[str, str]) -> None:
        folder.mkdir()
        self._nomad, self._folder, self._ports = servers.nomads[SERVICES], folder, Ports(3)
        self._cgroup = f"rdv-host-{self._ports.numbers[0]}"
        token = servers.consul.put_token(str(uuid.uuid4()), ["nomad-agents"])
        self.agent = ConsulServer(folder / "consul", environ, token=servers.consul.token, joins=servers.consul.serf)
        links = Links(auth_name(SERVICES), self.agent.port, token, servers.vault.port)
        numbers, rpc = self._ports.numbers, self._nomad.server_rpc
        config = client_config(SERVICES, folder / "client", numbers, rpc, 4096, links, cgroup=self._cgroup)
        write_private(folder / "client.hcl", config.replace(f'name       = "{SERVICES}"', 'name       = "second"'))
        argv = [str(find_program("nomad", environ)), "agent", f"-config={folder / 'client.hcl'}"]
        self.client = ServerProcess("nomad-second", argv, clean_environment(environ), folder / "client.log")

    def start(self) -> None:
        """Start it, and wait until work can be placed on it."""
        self.agent.start()
        self.client.start()
        self.client.until(lambda: self._node().get("Status") == "ready", "ready")
        self.client.until(lambda: self._has("consul.version") and self._has("vault.accessible"), "linked")

    def only(self, name: str = "") -> None:
        """Have new work be placed on the node of a name only; on all unless given."""
        for node in self._nodes():
            eligible = "eligible" if name in ("", node["Name"]) else "ineligible"
            body = {"Eligibility": eligible}
            assert self._nomad.call("POST", f"/v1/node/{node['ID']}/eligibility", body).ok

    def lose(self) -> None:
        """Have it be gone at once, with all that runs on it."""
        self.client.kill()
        self.agent.process.kill()
        leftovers.kill(self._tasks())

    def close(self) -> None:
        """Leave nothing of it."""
        self.client.stop()
        leftovers.kill(self._tasks())
        leftovers.unmount(self._folder)
        leftovers.remove_cgroups(self._cgroup)
        self.agent.close()
        self._ports.close()

    def _tasks(self) -> list[int]:
        return [*leftovers.task_processes(self._folder), *leftovers.log_collectors(self._folder)]

    def _nodes(self) -> Any:
        return self._nomad.call("GET", "/v1/nodes").json()

    def _node(self) -> dict[str, Any]:
        return next((one for one in self._nodes() if one["Name"] == "second"), {})

    def _has(self, attribute: str) -> bool:
        found = self._nomad.call("GET", f"/v1/node/{self._node()['ID']}").json()
        return attribute in (found.get("Attributes") or {})


@pytest.fixture
def host(own_serving: Any, tmp_path: Path, environ: dict[str, str]) -> Iterator[Host]:
    """A second host of the test's cluster."""
    made = Host(own_serving.cluster.servers, tmp_path / "second", environ)
    yield made
    made.close()


def test_a_lost_host_loses_no_request(own_serving: Any, host: Host) -> None:
    """The gateway and the worker of the other host answer, and Nomad has new ones run in place of what is gone."""
    serving = own_serving
    serving.train(2.0)
    serving.rdv("deploy", MODEL, "--timeout", "0")
    serving.apply()
    host.start()
    host.only("second")
    serving.rdv("scale", "gateway", "2")
    serving.rdv("scale", MODEL, "2")
    host.only()
    project = load_project(serving.town.folder, "dev")
    serving.town.until(lambda: len(gateways(project)) == 2)
    before = {one.id for one in gateways(project)}

    def lose() -> None:
        host.lose()
        serving.town.until(lambda: len(now := gateways(project)) == 2 and {one.id for one in now} != before)

    found = serving.under_load(100, lose)
    print(f"host lost: {found.sent} sent, {len(found.lost)} lost, {found.defaults} defaults, {found.statuses}")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    [survivor] = [one for one in serving.whole()["gateways"] if one["gateway"] in before]
    ledger = survivor["goals"]["visit"]["ledger"]
    assert ledger["balances"] is True
    assert ledger["accepted"] == ledger["answered"] + ledger["defaults"] + ledger["errors"] + ledger["open"]


def gateways(project: Any) -> Any:
    """The gateways that are found."""
    return select.catalog(project).find(select.gateway_service(project)).instances
