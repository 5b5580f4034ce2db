"""One Vault server, initialised and unsealed, on 127.0.0.1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.http import Answer, call, must
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, find_program, write_private

MOUNT = "secret"
_LOOK_S = 2.0
_AUTHORITY_LIFE = "87600h"


def vault_config(data: Path, ports: tuple[int, ...]) -> str:
    """The server's configuration. ports: http, cluster."""
    http, cluster = ports
    return f"""\
storage "file" {{
  path = "{data}"
}}
listener "tcp" {{
  address         = "127.0.0.1:{http}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_disable     = true
}}
api_addr      = "http://127.0.0.1:{http}"
cluster_addr  = "http://127.0.0.1:{cluster}"
disable_mlock = true
ui            = false
"""


class VaultServer:
    """A Vault server with a KV version 2 engine at `secret/`. Keeps ports, keys and data over stop and start.

    Its root token and the key that unseals it are kept in `keys.json` of the folder, for this user's eyes. ports: as
    in `vault_config`, free ones unless given.
    """

    def __init__(
        self, folder: Path, environ: Mapping[str, str], tied: bool = True, ports: Sequence[int] = ()
    ) -> None:
        self._ports = Ports(0 if ports else 2)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = tuple(ports) or self._ports.numbers
        self.port = numbers[0]
        self.address = f"http://127.0.0.1:{self.port}"
        self._keys = folder / "keys.json"
        kept = json.loads(self._keys.read_text()) if self._keys.exists() else {}
        self.root_token, self._unseal_key = kept.get("root_token", ""), kept.get("unseal_key", "")
        config = folder / "vault.hcl"
        config.write_text(vault_config(folder / "data", numbers))
        argv = [str(find_program("vault", environ)), "server", f"-config={config}"]
        self.process = ServerProcess("vault", argv, clean_environment(environ), folder / "vault.log", tied)

    def start(self) -> None:
        """Start it, initialise it the first time, unseal it and wait until secrets can be read."""
        self.process.start()
        self.settle()

    def settle(self) -> None:
        """Have the server, which was started, initialised the first time, unsealed, and ready to serve secrets."""
        self.process.until(lambda: call(self.port, "GET", "/v1/sys/health").status, "listening")
        if not self._unseal_key:
            made = must(call(self.port, "PUT", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1}), "init")
            self.root_token, self._unseal_key = made.json()["root_token"], made.json()["keys"][0]
            kept = {"root_token": self.root_token, "unseal_key": self._unseal_key}
            write_private(self._keys, json.dumps(kept))
        self.unseal()
        if f"{MOUNT}/" not in must(self.call("GET", "/v1/sys/mounts"), "the list of mounts").json():
            must(self.call("POST", f"/v1/sys/mounts/{MOUNT}", {"type": "kv", "options": {"version": "2"}}), "kv mount")
        self.process.until(lambda: self.call("GET", f"/v1/{MOUNT}/config").ok, "serving secrets")

    def is_ready(self) -> bool:
        """Whether it answers and is unsealed."""
        return call(self.port, "GET", "/v1/sys/health", limit_s=_LOOK_S).ok

    def unseal(self) -> None:
        """Unseal it and wait until it is active."""
        must(call(self.port, "PUT", "/v1/sys/unseal", {"key": self._unseal_key}), "unseal")
        self.process.until(lambda: call(self.port, "GET", "/v1/sys/health").ok, "active")

    def seal(self) -> None:
        """Seal it: it answers, and gives nothing away."""
        must(self.call("PUT", "/v1/sys/seal"), "seal")

    def close(self) -> None:
        """Stop it and give its ports back."""
        self.process.stop()
        self._ports.close()

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Answer:
        """A request with the root token, or another one."""
        return call(self.port, method, path, body, {"X-Vault-Token": token or self.root_token})

    def write_secret(self, path: str, fields: Mapping[str, str]) -> None:
        """Store the fields of one secret."""
        must(self.call("POST", f"/v1/{MOUNT}/data/{path}", {"data": dict(fields)}), f"secret {path}")

    def make_authority(self, mount: str) -> None:
        """A PKI engine with a root certificate of its own, unless it is there."""
        if f"{mount}/" not in must(self.call("GET", "/v1/sys/mounts"), "the list of mounts").json():
            config = {"max_lease_ttl": _AUTHORITY_LIFE}
            must(self.call("POST", f"/v1/sys/mounts/{mount}", {"type": "pki", "config": config}), "pki mount")
        if not self.call("GET", f"/v1/{mount}/cert/ca").ok:
            wish = {"common_name": "rdv dev cluster", "key_type": "ec", "key_bits": 256, "ttl": _AUTHORITY_LIFE}
            must(self.call("POST", f"/v1/{mount}/root/generate/internal", wish), "root certificate")

    def make_login(self, name: str, config: Mapping[str, Any]) -> None:
        """Have a login by signed identities, with this configuration."""
        if f"{name}/" not in must(self.call("GET", "/v1/sys/auth"), "the list of logins").json():
            must(self.call("POST", f"/v1/sys/auth/{name}", {"type": "jwt"}), f"login {name}")
        must(self.call("POST", f"/v1/auth/{name}/config", config), f"the configuration of {name}")

    def write_role(self, login: str, name: str, role: Mapping[str, Any]) -> None:
        """A role of such a login."""
        must(self.call("POST", f"/v1/auth/{login}/role/{name}", role), f"role {name}")

    def write_policy(self, name: str, rules: str) -> None:
        """A policy from HCL rules."""
        must(self.call("PUT", f"/v1/sys/policies/acl/{name}", {"policy": rules}), f"policy {name}")
