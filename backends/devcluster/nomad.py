"""A Nomad cluster of one server and one client, as two processes, on 127.0.0.1.

Two processes, because one that is both registers its client only after half a minute whenever it loses the race for
the server's keyring.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rdv.backends.devcluster import leftovers
from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.http import Answer, call, must
from rdv.backends.devcluster.nomad_config import Links, client_config, server_config
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, find_program, write_private

_REGISTERED = b"node registration complete"
_PURGE_S = 20.0
_LOOK_S = 2.0


class NomadServers:
    """A Nomad server and its client with their data below a folder. Keeps ports, token and data over stop and start.

    ports: http, rpc and serf of the server, then of the client; free ones unless given. token: the management token;
    a new one unless given. links, task_ports, docker_socket, chroot: as in `nomad_config`.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        tied: bool = True,
        name: str = "batch",
        memory_mb: int = 4096,
        ports: Sequence[int] = (),
        token: str = "",
        links: Links | None = None,
        task_ports: tuple[int, int] | None = None,
        docker_socket: Path | None = None,
        chroot: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self._folder, self._ports = name, folder, Ports(0 if ports else 6)
        self.memory_mb = memory_mb
        folder.mkdir(parents=True, exist_ok=True)
        numbers = tuple(ports) or self._ports.numbers
        self.port, self.server_rpc, self.client_port = numbers[0], numbers[1], numbers[3]
        self.address = f"http://127.0.0.1:{self.port}"
        self.token = token or str(uuid.uuid4())
        self._linked, self._docker = links is not None, docker_socket is not None
        self._cgroup = cgroup(name, numbers[0])
        write_private(folder / "server.hcl", server_config(name, folder / "server", numbers[:3], links))
        client = client_config(
            name, folder / "client", numbers[3:], numbers[1], memory_mb, links, task_ports, docker_socket, self._cgroup,
            chroot,
        )  # fmt: skip
        # whether a client that runs was told something else
        self.client_changed = write_private(folder / "client.hcl", client)
        program, env = str(find_program("nomad", environ)), clean_environment(environ)
        self.server, self.client = (
            ServerProcess(
                f"nomad-{role}",
                [program, "agent", f"-config={folder / role}.hcl"],
                env,
                folder / f"{role}.log",
                tied,
            )
            for role in ("server", "client")
        )
        self._client_log_from = 0

    def start(self) -> None:
        """Start both and wait until a job can be placed."""
        self.start_server()
        self.start_client()

    def start_server(self) -> None:
        """Start the server and wait until it leads, knows its token and can sign identities."""
        self.server.start()
        self.settle_server()

    def settle_server(self) -> None:
        """Wait until the server, which was started, leads, knows its token and can sign identities."""
        self.server.until(self.leads, "leading")
        self.server.until(self._knows_token, "taking its token")
        self.server.until(lambda: self.call("GET", "/v1/jobs").ok, "answering")
        self.server.until(lambda: b'"kid"' in call(self.port, "GET", "/.well-known/jwks.json").body, "signing")

    def start_client(self) -> None:
        """Start the client and wait until it is registered."""
        self.launch_client()
        self.settle_client()

    def launch_client(self) -> None:
        """Start the client; what the server says of it may be of its last life for a while."""
        self._client_log_from = self.client.log.stat().st_size if self.client.log.exists() else 0
        self.client.start()

    def settle_client(self) -> None:
        """Wait until the client, which was launched, is registered and has found what jobs may ask for."""
        self.client.until(self._has_registered, "registered")
        self.client.until(self.client_is_ready, "ready")

    def leads(self) -> bool:
        """Whether the server answers and has a leader."""
        return len(call(self.port, "GET", "/v1/status/leader", limit_s=_LOOK_S).body) > 4

    def client_is_ready(self) -> bool:
        """Whether the client answers, and the server knows it as ready, with the servers and drivers that it has."""
        if not call(self.client_port, "GET", "/v1/agent/health?type=client", limit_s=_LOOK_S).ok:
            return False
        nodes = call(self.port, "GET", "/v1/nodes", headers={"X-Nomad-Token": self.token}, limit_s=_LOOK_S)
        ready = [one for one in nodes.json() if one["Status"] == "ready"] if nodes.ok else []
        return any(self._has_everything(one["ID"]) for one in ready)

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Answer:
        """A request with the management token, or another one."""
        return call(self.port, method, path, body, {"X-Nomad-Token": token or self.token}, limit_s=30.0)

    def write_policy(self, name: str, rules: str, job_namespace: str = "") -> None:
        """A policy from HCL rules; with a namespace, the one that the identities of all its jobs have."""
        body: dict[str, Any] = {"Name": name, "Rules": rules}
        if job_namespace:
            body["JobACL"] = {"Namespace": job_namespace}
        must(self.call("POST", f"/v1/acl/policy/{name}", body), f"policy {name}")

    def new_token(self, name: str, rules: str) -> str:
        """A new token that may do what the rules (HCL) say and nothing else."""
        self.write_policy(name, rules)
        return self.token_for(name, [name])

    def token_for(self, name: str, policies: Sequence[str]) -> str:
        """A new token with some policies."""
        made = self.call("POST", "/v1/acl/token", {"Name": name, "Type": "client", "Policies": list(policies)})
        return str(must(made, f"token {name}").json()["SecretID"])

    def takes(self, token: str) -> bool:
        """Whether a token is valid."""
        return self.call("GET", "/v1/acl/token/self", token=token).ok

    def make_namespace(self, name: str) -> None:
        """A namespace; one that is there stays."""
        must(self.call("POST", f"/v1/namespace/{name}", {"Name": name}), f"namespace {name}")

    def register(self, hcl: str, variables: str = "") -> None:
        """Register a job from HCL."""
        parsed = self.call("POST", "/v1/jobs/parse", {"JobHCL": hcl, "Variables": variables, "Canonicalize": True})
        must(self.call("POST", "/v1/jobs", {"Job": must(parsed, "the job's HCL").json()}), "the job")

    def purge(self) -> None:
        """End and forget every job, and wait until no task runs: stopping Nomad alone leaves tasks running."""
        purge(self.port, self.token, self._folder)

    def close(self) -> None:
        """End all tasks, stop both, and leave no process, mount or port behind."""
        if self.server.pid and self.client.pid and call(self.port, "GET", "/v1/status/leader").ok:
            self.purge()
        self.client.stop()
        self.server.stop()
        self.clear()
        self._ports.close()

    def clear(self) -> None:
        """End what is left of tasks, with both stopped, and their mounts and control groups."""
        leftovers.kill([*leftovers.task_processes(self._folder), *leftovers.log_collectors(self._folder)])
        leftovers.unmount(self._folder)
        leftovers.remove_cgroups(self._cgroup)

    def wipe(self) -> None:
        """Lose all data, while both are stopped."""
        leftovers.unmount(self._folder)
        for part in ("server", "client"):
            shutil.rmtree(self._folder / part, ignore_errors=True)

    def _knows_token(self) -> bool:
        if self.takes(self.token):
            return True
        return call(self.port, "POST", "/v1/acl/bootstrap", {"BootstrapSecret": self.token}).ok

    def _has_registered(self) -> bool:
        with self.client.log.open("rb") as log:
            log.seek(self._client_log_from)
            return _REGISTERED in log.read()

    def _has_everything(self, node_id: str) -> bool:
        if not self._linked and not self._docker:
            return True
        node = json.loads(self.call("GET", f"/v1/node/{node_id}").body or b"{}")
        attributes, drivers = node.get("Attributes") or {}, node.get("Drivers") or {}
        linked = "consul.version" in attributes and attributes.get("vault.accessible") == "true"
        docker = drivers.get("docker", {}).get("Healthy", False)
        return (linked or not self._linked) and (docker or not self._docker)


def cgroup(name: str, port: int) -> str:
    """The control group of the tasks of a cluster, whose server answers at a port."""
    return f"rdv-{name}-{port}"


def purge(port: int, token: str, folder: Path) -> None:
    """End and forget every job of a cluster, and wait until no task runs whose client's data is in a folder.

    What dispatches or recurs may have made another job meanwhile, so it is looked for until none is left.
    """
    headers, end = {"X-Nomad-Token": token}, time.monotonic() + _PURGE_S

    def send(method: str, path: str) -> Answer:
        return call(port, method, path, None, headers)

    while jobs := must(send("GET", "/v1/jobs?namespace=*"), "the list of jobs").json():
        for job in jobs:
            gone = send("DELETE", f"/v1/job/{quote(job['ID'])}?purge=true&namespace={job['Namespace']}")
            if gone.status != 404:  # collected meanwhile
                must(gone, f"the purge of {job['ID']}")
        if time.monotonic() > end:
            break
    while leftovers.task_processes(folder) and time.monotonic() < end:
        time.sleep(0.05)
