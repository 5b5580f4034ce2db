"""One Consul server with access control on, on 127.0.0.1."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.http import Answer, call, must
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, find_program, write_private

_LOOK_S = 2.0


def consul_config(data: Path, ports: tuple[int, ...], management_token: str, joins: int = 0) -> dict[str, Any]:
    """The agent's configuration. ports: http, grpc, dns, serf, server. joins: the serf port of the server that an agent

    which is none itself belongs to.
    """
    http, grpc, dns, serf, server = ports
    tokens = {"agent": management_token}
    kind: dict[str, Any] = {"node_name": "consul", "server": True, "bootstrap_expect": 1}
    if joins:
        kind = {"node_name": f"consul-{http}", "retry_join": [f"127.0.0.1:{joins}"], "retry_interval": "300ms"}
    else:
        tokens["initial_management"] = management_token
    return {
        **kind,
        "datacenter": "dc1",
        "data_dir": str(data),
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "advertise_addr": "127.0.0.1",
        "ports": {
            "http": http, "https": -1, "grpc": grpc, "grpc_tls": -1, "dns": dns, "serf_lan": serf, "serf_wan": -1,
            "server": server,
        },
        "connect": {"enabled": False},
        "ui_config": {"enabled": False},
        "disable_update_check": True,
        "log_level": "INFO",
        "leave_on_terminate": False,
        # the default is meant for elections between data centres: five times slower
        "performance": {"raft_multiplier": 1},
        "acl": {
            "enabled": True,
            "default_policy": "deny",
            "enable_token_persistence": False,
            "tokens": tokens,
        },
    }  # fmt: skip


class ConsulServer:
    """A Consul server with its data below a folder. Keeps ports, token and data over stop and start.

    ports, joins: as in `consul_config`, free ports unless given. token: the management token, a new one unless given.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        tied: bool = True,
        ports: Sequence[int] = (),
        token: str = "",
        joins: int = 0,
    ) -> None:
        self._data, self._ports = folder / "data", Ports(0 if ports else 5)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = tuple(ports) or self._ports.numbers
        self.port, self.serf = numbers[0], numbers[3]
        self.address = f"http://127.0.0.1:{self.port}"
        self.token = token or str(uuid.uuid4())
        config = folder / "consul.json"
        write_private(config, json.dumps(consul_config(self._data, numbers, self.token, joins)))
        argv = [str(find_program("consul", environ)), "agent", f"-config-file={config}"]
        self.process = ServerProcess(folder.name, argv, clean_environment(environ), folder / "consul.log", tied)

    def start(self) -> None:
        """Start it and wait until a key can be written and read."""
        self.process.start()
        self.settle()

    def settle(self) -> None:
        """Wait until a key can be written and read."""
        self.process.until(self._is_writable, "ready")

    def is_ready(self) -> bool:
        """Whether it answers and has a leader."""
        return len(call(self.port, "GET", "/v1/status/leader", limit_s=_LOOK_S).body) > 4

    def wipe(self) -> None:
        """Lose all data, while it is stopped."""
        shutil.rmtree(self._data)

    def close(self) -> None:
        """Stop it and give its ports back."""
        self.process.stop()
        self._ports.close()

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """A request with the management token."""
        return call(self.port, method, path, body, {"X-Consul-Token": self.token})

    def new_token(self, name: str, rules: str) -> str:
        """A new token that may do what the rules (HCL) say and nothing else."""
        self.write_policy(name, rules)
        return self.put_token(str(uuid.uuid4()), [name])

    def write_policy(self, name: str, rules: str) -> None:
        """A policy from HCL rules."""
        found = self.call("GET", f"/v1/acl/policy/name/{name}")
        path = f"/v1/acl/policy/{found.json()['ID']}" if found.ok else "/v1/acl/policy"
        must(self.call("PUT", path, {"Name": name, "Rules": rules}), f"policy {name}")

    def put_token(self, secret: str, policies: Sequence[str]) -> str:
        """Have this secret be a token with these policies: a policy that was lost was taken from its tokens, too."""
        found = call(self.port, "GET", "/v1/acl/token/self", None, {"X-Consul-Token": secret})
        links = [{"Name": name} for name in policies]
        if found.ok:
            accessor = found.json()["AccessorID"]
            done = self.call("PUT", f"/v1/acl/token/{accessor}", {"AccessorID": accessor, "Policies": links})
        else:
            done = self.call("PUT", "/v1/acl/token", {"SecretID": secret, "Policies": links})
        must(done, f"a token with {', '.join(policies)}")
        return secret

    def _is_writable(self) -> bool:
        if not self.call("PUT", "/v1/kv/.ready", b"1").ok:
            return False
        return self.call("GET", "/v1/kv/.ready?consistent").ok and self.call("DELETE", "/v1/kv/.ready").ok
