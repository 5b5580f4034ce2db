"""What a Nomad agent is told: configuration as text, from values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rdv.backends.devcluster.rights_files import login

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
"""
_NO_CONSUL = """\
consul {
  auto_advertise   = false
  server_auto_join = false
  client_auto_join = false
}
"""
_CONSUL = """\
consul {{
  address             = "127.0.0.1:{port}"
  token               = "{token}"
  auto_advertise      = false
  server_auto_join    = false
  client_auto_join    = false
  service_auth_method = "{method}"
  task_auth_method    = "{method}"
  service_identity {{
    aud = ["{audience}"]
    ttl = "1h"
  }}
  task_identity {{
    aud = ["{audience}"]
    ttl = "1h"
  }}
}}
"""
_VAULT = """\
vault {{
  enabled               = true
  address               = "http://127.0.0.1:{port}"
  jwt_auth_backend_path = "{mount}"
  create_from_role      = "{role}"
  default_identity {{
    aud = ["{audience}"]
    ttl = "1h"
  }}
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
{cgroup}{chroot}  options = {{
    "fingerprint.denylist" = "env_aws,env_azure,env_gce,env_digitalocean"
  }}
  template {{
    wait {{
      min = "50ms"
      max = "500ms"
    }}
{retries}  }}
}}
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
"""
# attempts = 0 is without end: with the default, five minutes without Consul end every task that has a template
_RETRY = """\
    {server}_retry {{
      attempts    = 0
      backoff     = "100ms"
      max_backoff = "1s"
    }}
"""
_DOCKER = """\
plugin "docker" {{
  config {{
    endpoint = "unix://{socket}"
    gc {{
      image = false
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Links:
    """The Consul and the Vault that a Nomad cluster hands its workloads' identities to.

    auth: the name of its JWT auth method in Consul and of its mount in Vault. consul_token: the agents' own.
    """

    auth: str
    consul_port: int
    consul_token: str
    vault_port: int


def server_config(name: str, data: Path, ports: tuple[int, ...], links: Links | None = None) -> str:
    """The server's configuration. ports: http, rpc, serf."""
    return _common(name, data, ports, links) + _SERVER


def client_config(
    name: str,
    data: Path,
    ports: tuple[int, ...],
    server_rpc: int,
    memory_mb: int,
    links: Links | None = None,
    task_ports: tuple[int, int] | None = None,
    docker_socket: Path | None = None,
    cgroup: str = "",
    chroot: Mapping[str, str] | None = None,
) -> str:
    """The client's configuration. ports: http, rpc, serf. memory_mb: what its tasks may reserve together.

    task_ports: the first and the last that tasks get. cgroup: the name of the control group that its tasks are in.
    chroot: what tasks of the exec driver see of this machine, path here to path there; Nomad's own choice unless given.
    """
    # one of ten ranges above those of `Ports`, as the client's own port says
    first = 20000 + ports[0] % 10 * _TASK_PORTS
    first, last = task_ports or (first, first + _TASK_PORTS - 1)
    client = _CLIENT.format(
        server_rpc=server_rpc,
        memory_mb=memory_mb,
        first_port=first,
        last_port=last,
        cgroup=f'  cgroup_parent     = "{cgroup}"\n' if cgroup else "",
        chroot=_chroot(chroot or {}),
        retries="".join(_RETRY.format(server=server) for server in ("consul", "vault", "nomad")),
    )
    docker = _DOCKER.format(socket=docker_socket) if docker_socket else ""
    return _common(name, data, ports, links) + client + docker


def _chroot(paths: Mapping[str, str]) -> str:
    lines = "".join(f'    "{here}" = "{there}"\n' for here, there in paths.items())
    return f"  chroot_env {{\n{lines}  }}\n" if lines else ""


def _common(name: str, data: Path, ports: tuple[int, ...], links: Links | None) -> str:
    http, rpc, serf = ports
    common = _COMMON.format(name=name, region=name, data=data, http=http, rpc=rpc, serf=serf)
    if links is None:
        return common + _NO_CONSUL
    wanted = login(name)
    (consul_audience,) = wanted["consul"]["method"]["Config"]["BoundAudiences"]
    (vault_audience,) = wanted["vault"]["role"]["bound_audiences"]
    consul = _CONSUL.format(
        port=links.consul_port, token=links.consul_token, method=links.auth, audience=consul_audience
    )
    role = wanted["vault"]["config"]["default_role"]
    return common + consul + _VAULT.format(port=links.vault_port, mount=links.auth, role=role, audience=vault_audience)
