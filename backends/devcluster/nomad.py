"""A Nomad cluster of one server and one client, as two processes, on 127.0.0.1.

Two processes, because one that is both registers its client only after half a minute whenever it loses the race for
the server's keyring.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.http import Answer, call, must
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, find_program

_REGISTERED = b"node registration complete"
_PURGE_S = 20.0
# ports that tasks get, apart from other clusters' and from those that `Ports` hands out
_TASK_PORTS = 1000

_COMMON = """\
name       = "{name}"
region     = "{region}"
datacenter = "dc1"
data_dir   = "{data}"
bind_addr  = "127.0.0.1"
advertise {{
  http = "127.0.0.1:{http}"
  rpc  = "127.0.0.1:{rpc}"
  serf = "127.0.0.1:{serf}"
}}
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
log_level            = "INFO"
disable_update_check = true
leave_on_interrupt   = false
leave_on_terminate   = false
acl {{
  enabled = true
}}
ui {{
  enabled = false
}}
consul {{
  auto_advertise   = false
  server_auto_join = false
  client_auto_join = false
}}
"""
_SERVER = """\
server {
  enabled                 = true
  bootstrap_expect        = 1
  raft_multiplier         = 1
  job_gc_interval         = "10s"
  job_gc_threshold        = "5m"
  eval_gc_threshold       = "5m"
  batch_eval_gc_threshold = "5m"
  deployment_gc_threshold = "5m"
  heartbeat_grace         = "10s"
}
"""
_CLIENT = """\
client {{
  enabled           = true
  network_interface = "lo"
  servers           = ["127.0.0.1:{server_rpc}"]
  cpu_total_compute = 20000
  memory_total_mb   = {memory_mb}
  gc_max_allocs     = 500
  min_dynamic_port  = {first_port}
  max_dynamic_port  = {last_port}
  options = {{
    "fingerprint.denylist" = "env_aws,env_azure,env_gce,env_digitalocean"
  }}
}}
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
"""


def server_config(name: str, data: Path, ports: tuple[int, ...]) -> str:
    """The server's configuration. ports: http, rpc, serf."""
    http, rpc, serf = ports
    return _COMMON.format(name=name, region=name, data=data, http=http, rpc=rpc, serf=serf) + _SERVER


def client_config(name: str, data: Path, ports: tuple[int, ...], server_rpc: int, memory_mb: int) -> str:
    """The client's configuration. ports: http, rpc, serf. memory_mb: what its tasks may reserve together."""
    http, rpc, serf = ports
    # one of ten ranges above those of `Ports`, as the client's own port says
    first = 20000 + http % 10 * _TASK_PORTS
    common = _COMMON.format(name=name, region=name, data=data, http=http, rpc=rpc, serf=serf)
    last = first + _TASK_PORTS - 1
    return common + _CLIENT.format(server_rpc=server_rpc, memory_mb=memory_mb, first_port=first, last_port=last)


class NomadServers:
    """A Nomad server and its client with their data below a folder. Keeps ports, token and data over stop and start."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], tied: bool = True, name: str = "batch", memory_mb: int = 4096
    ) -> None:
        self._folder, self._ports = folder, Ports(6)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = self._ports.numbers
        self.port = numbers[0]
        self.address = f"http://127.0.0.1:{self.port}"
        self.token = str(uuid.uuid4())
        self._fresh = True
        program, env = str(find_program("nomad", environ)), clean_environment(environ)
        (folder / "server.hcl").write_text(server_config(name, folder / "server", numbers[:3]))
        (folder / "client.hcl").write_text(
            client_config(name, folder / "client", numbers[3:], server_rpc=numbers[1], memory_mb=memory_mb)
        )
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

    def start(self) -> None:
        """Start both and wait until a job can be placed."""
        self.start_server()
        self.start_client()

    def start_server(self) -> None:
        """Start the server and wait until it leads, knows its token and can sign identities."""
        self.server.start()
        self.server.until(lambda: len(call(self.port, "GET", "/v1/status/leader").body) > 4, "leading")
        if self._fresh:
            self.server.until(lambda: self._bootstrapped(), "taking its token")
            self._fresh = False
        self.server.until(lambda: self.call("GET", "/v1/jobs").ok, "answering")
        self.server.until(lambda: b'"kid"' in call(self.port, "GET", "/.well-known/jwks.json").body, "signing")

    def start_client(self) -> None:
        """Start the client and wait until it is registered: what the server says of it may be of its last life."""
        seen = self.client.log.stat().st_size if self.client.log.exists() else 0
        self.client.start()

        def is_registered() -> bool:
            with self.client.log.open("rb") as log:
                log.seek(seen)
                return _REGISTERED in log.read()

        self.client.until(is_registered, "registered")
        self.client.until(lambda: b'"Status":"ready"' in self.call("GET", "/v1/nodes").body, "ready")

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Answer:
        """A request with the management token, or another one."""
        return call(self.port, method, path, body, {"X-Nomad-Token": token or self.token}, limit_s=30.0)

    def new_token(self, name: str, rules: str) -> str:
        """A new token that may do what the rules (HCL) say and nothing else."""
        must(self.call("POST", f"/v1/acl/policy/{name}", {"Name": name, "Rules": rules}), f"policy {name}")
        made = self.call("POST", "/v1/acl/token", {"Name": name, "Type": "client", "Policies": [name]})
        return str(must(made, f"token {name}").json()["SecretID"])

    def make_namespace(self, name: str) -> None:
        """A namespace; one that is there stays."""
        must(self.call("POST", f"/v1/namespace/{name}", {"Name": name}), f"namespace {name}")

    def register(self, hcl: str, variables: str = "") -> None:
        """Register a job from HCL."""
        parsed = self.call("POST", "/v1/jobs/parse", {"JobHCL": hcl, "Variables": variables, "Canonicalize": True})
        must(self.call("POST", "/v1/jobs", {"Job": must(parsed, "the job's HCL").json()}), "the job")

    def purge(self) -> None:
        """End and forget every job, and wait until no task runs: stopping Nomad alone leaves tasks running."""
        for job in must(self.call("GET", "/v1/jobs?namespace=*"), "the list of jobs").json():
            path = f"/v1/job/{job['ID']}?purge=true&namespace={job['Namespace']}"
            must(self.call("DELETE", path), f"the purge of {job['ID']}")
        end = time.monotonic() + _PURGE_S
        while _executors(self._folder) and time.monotonic() < end:
            time.sleep(0.05)

    def close(self) -> None:
        """End all tasks, stop both, and leave no process, mount or port behind."""
        if self.server.pid and self.client.pid and call(self.port, "GET", "/v1/status/leader").ok:
            self.purge()
        self.client.stop()
        self.server.stop()
        for pid in _executors(self._folder):
            _kill(pid)
        _unmount(self._folder)
        self._ports.close()

    def wipe(self) -> None:
        """Lose all data, while both are stopped."""
        _unmount(self._folder)
        for part in ("server", "client"):
            shutil.rmtree(self._folder / part, ignore_errors=True)
        self._fresh = True

    def _bootstrapped(self) -> bool:
        return call(self.port, "POST", "/v1/acl/bootstrap", {"BootstrapSecret": self.token}).ok


def _executors(folder: Path) -> list[int]:
    """Processes that belong to tasks of a cluster: their command line, environment or folder is below its data."""
    inside, found = str(folder).encode() + b"/client/alloc/", []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and inside in (process / "cmdline").read_bytes() + (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _kill(pid: int) -> None:
    subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)


def _unmount(folder: Path) -> None:
    """Take away mounts below a folder, innermost first; without root there are none."""
    below = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((one for one in below if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", mount], check=False, capture_output=True)
