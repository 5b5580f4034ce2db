"""The servers of a dev cluster as objects, made from what its folder remembers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.consul import ConsulServer
from rdv.backends.devcluster.docker import DockerEngine, note_traces, remove_traces
from rdv.backends.devcluster.environments import BATCH, CLUSTERS, SERVICES, Addresses, auth_name
from rdv.backends.devcluster.hdfs import HdfsServers, is_operational
from rdv.backends.devcluster.http import answers_at, call
from rdv.backends.devcluster.nomad import NomadServers
from rdv.backends.devcluster.nomad_config import Links
from rdv.backends.devcluster.s3 import S3Server
from rdv.backends.devcluster.state import AGENT, State
from rdv.backends.devcluster.vault import VaultServer

_LOOK_S = 2.0
# of this machine's memory, what tasks of each cluster may reserve together; a test's clusters have less
_SHARE = {BATCH: 0.5, SERVICES: 0.25}
_TIED_MB = 4096


@dataclass(frozen=True, slots=True)
class Member:
    """One server process of a cluster: how it is launched, and how one waits until it is ready."""

    name: str
    process: ServerProcess
    launch: Callable[[], None]
    settle: Callable[[], None]
    outdated: bool = False


class Servers:
    """All servers of a cluster; making them writes their configurations and starts nothing."""

    def __init__(self, folder: Path, environ: Mapping[str, str], state: State, tied: bool) -> None:
        ports, secrets = state.ports, state.secrets
        self.consul = ConsulServer(folder / "consul", environ, tied, ports["consul"], secrets["consul"])
        # a Nomad client takes services that it does not know off its Consul agent: each cluster has an agent of its own
        self.agents = {SERVICES: self.consul}
        self.agents[BATCH] = ConsulServer(
            folder / AGENT, environ, tied, ports[AGENT], secrets["consul"], self.consul.serf
        )
        self.vault = VaultServer(folder / "vault", environ, tied, ports["vault"])
        self.s3 = S3Server(folder / "s3", environ, tied, ports["s3"], state.s3_keys)
        self.hdfs = HdfsServers(folder / "hdfs", environ, tied, ports["hdfs"]) if "hdfs" in state.extras else None
        self.docker = DockerEngine(folder / "docker", environ, tied) if "docker" in state.extras else None
        self.nomads = {
            cluster: NomadServers(
                folder / f"nomad-{cluster}",
                environ,
                tied,
                cluster,
                _TIED_MB if tied else memory_mb(cluster),
                ports[f"nomad-{cluster}"],
                secrets[f"nomad-{cluster}"],
                Links(auth_name(cluster), self.agents[cluster].port, secrets[f"agents-{cluster}"], self.vault.port),
                state.task_ports[cluster],
                self.docker.socket if self.docker else None,
                state.chroot,
            )
            for cluster in CLUSTERS
        }

    @property
    def batch(self) -> NomadServers:
        """The Nomad cluster of steps, pipelines and schedules."""
        return self.nomads[BATCH]

    @property
    def services(self) -> NomadServers:
        """The Nomad cluster of what serves."""
        return self.nomads[SERVICES]

    def first(self) -> list[Member]:
        """What needs none of the others to start."""
        agent = self.agents[BATCH]
        members = [
            Member(name, server.process, server.process.start, server.settle)
            for name, server in (("consul", self.consul), (AGENT, agent), ("vault", self.vault), ("s3", self.s3))
        ]
        for cluster, nomad in self.nomads.items():
            members.append(Member(f"nomad-{cluster}", nomad.server, nomad.server.start, nomad.settle_server))
        if self.hdfs is not None:
            members.append(Member("hdfs", self.hdfs.process, self.hdfs.process.start, self.hdfs.settle))
        if self.docker is not None:
            members.append(Member("docker", self.docker.process, self._launch_docker, self.docker.settle))
        return members

    def clients(self) -> list[Member]:
        """Nomad's clients: what they do not find when they start, they look for only much later."""
        return [
            Member(f"nomad-{cluster}-client", one.client, one.launch_client, one.settle_client, one.client_changed)
            for cluster, one in self.nomads.items()
        ]

    def _launch_docker(self) -> None:
        assert self.docker is not None
        folder = self.docker.folder
        note_traces(folder)
        if (folder / "exec").exists():  # one was killed: its containers end, as they do when it starts by itself
            remove_traces(folder)
        for left in ("docker.pid", "exec/containerd/containerd.pid"):  # taken for signs of life
            (folder / left).unlink(missing_ok=True)
        self.docker.process.start()


def memory_mb(cluster: str) -> int:
    """What the tasks of a person's Nomad cluster may reserve together."""
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(_TIED_MB, int(_SHARE[cluster] * machine_bytes) >> 20)


def names(extras: tuple[str, ...]) -> list[str]:
    """The names of a cluster's servers, in the order in which they are told."""
    nomads = [f"nomad-{cluster}{part}" for cluster in CLUSTERS for part in ("", "-client")]
    return ["consul", AGENT, "vault", "s3", *nomads, *(extra for extra in ("hdfs", "docker") if extra in extras)]


def marks(folder: Path) -> dict[str, str]:
    """What the command line of each server holds and no other's does."""
    found = {
        "consul": f"-config-file={folder}/consul/consul.json",
        AGENT: f"-config-file={folder}/{AGENT}/consul.json",
        "vault": f"-config={folder}/vault/vault.hcl",
        "s3": f"{folder}/s3/data",
        "hdfs": f"{folder}/hdfs/data",
        "docker": f"--config-file={folder}/docker/daemon.json",
    }
    for cluster in CLUSTERS:
        found[f"nomad-{cluster}"] = f"-config={folder}/nomad-{cluster}/server.hcl"
        found[f"nomad-{cluster}-client"] = f"-config={folder}/nomad-{cluster}/client.hcl"
    return found


def address(folder: Path, state: State, name: str) -> str:
    """Where a server answers."""
    if name == "docker":
        return f"unix://{folder / 'docker' / 'docker.sock'}"
    return f"http://127.0.0.1:{_port(state, name)}"


def _port(state: State, name: str) -> int:
    client = name.endswith("-client")
    return state.ports[name.removesuffix("-client")][3 if client else 0]


def is_ready(folder: Path, state: State, name: str) -> bool:
    """Whether a server answers and can do its work, asked without any rights."""
    if name == "docker":
        return answers_at(folder / "docker" / "docker.sock", "/_ping")
    port = _port(state, name)
    if name == "hdfs":
        return is_operational(port)
    paths = {"vault": "/v1/sys/health", "s3": "/health"}
    path = paths.get(name, "/v1/agent/health?type=client" if name.endswith("-client") else "/v1/status/leader")
    answer = call(port, "GET", path, limit_s=_LOOK_S)
    return answer.ok and (not path.endswith("leader") or len(answer.body) > 4)


def addresses(folder: Path, state: State) -> Addresses:
    """Where the servers are, as settings name them."""

    def at(name: str) -> str:
        return address(folder, state, name)

    hdfs = at("hdfs") if "hdfs" in state.extras else ""
    return Addresses(
        at("consul"), at("vault"), at("nomad-batch"), at("nomad-services"), at("s3"), hdfs, folder / "tokens"
    )  # fmt: skip
