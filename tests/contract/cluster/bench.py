"""A bench over the cluster port, for its contract suite and for scenarios: dispatchers, steps, and ways to wait."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdv.backends.ports import Cluster, Outcome, Resources, StepSpec

HANG_S = 180.0
ENTRIES = Path(__file__).with_name("entries.py")


@dataclass(frozen=True)
class Member:
    """One cluster as the suite uses it.

    open: a dispatcher, by its max_parallel. memory_mb: what a step reserves so that as many fit as max_parallel says,
    where the cluster's capacity bounds them; None: it does not matter. many: as many steps as are a crowd on it. end:
    a side door that ends whatever is left.
    """

    open: Callable[[int], Cluster]
    memory_mb: Callable[[int], int] | None = None
    many: int = 64
    end: Callable[[], None] = lambda: None


class Bench:
    """One cluster: dispatchers on it, a project whose module `entries` its steps run, and ways to wait."""

    def __init__(self, folder: Path, member: Member) -> None:
        self.folder, self._member, self.many = folder, member, member.many
        self._opened: list[Cluster] = []
        self._fit = 0
        self._names = iter(range(10_000))
        shutil.copyfile(ENTRIES, folder / ENTRIES.name)

    def cluster(self, max_parallel: int = 2) -> Any:
        """Another dispatcher on the same cluster, on which as many steps may run as the strictest one has asked for."""
        self._fit = min(self._fit or max_parallel, max_parallel)
        self._opened.append(self._member.open(max_parallel))
        return self._opened[-1]

    def spec(self, function: str, payload: dict[str, Any] | None = None, **other: Any) -> StepSpec:
        """A step of run `r1` with a token of its own; wall_s and memory_mb go to its resources."""
        limits = {name: other.pop(name) for name in ("wall_s", "memory_mb", "cpus") if name in other}
        if self._member.memory_mb:
            limits.setdefault("memory_mb", self._member.memory_mb(self._fit or 2))
        name = other.pop("name", f"{function}-{next(self._names)}")
        fields: dict[str, Any] = {"run": "r1", "token": name, "entry": f"entries:{function}", "payload": payload or {}}
        return StepSpec(name=name, folder=str(self.folder), resources=Resources(**limits), **{**fields, **other})

    def gated(self, name: str = "a", **other: Any) -> StepSpec:
        """A step that writes its process id to `<name>.started` and runs until `open(name)`."""
        payload = {"started": str(self.folder / f"{name}.started"), "gate": str(self.folder / f"{name}.gate")}
        return self.spec("gate", payload, **other)

    def started(self, name: str = "a", count: int = 1) -> list[int]:
        """The process ids of the gated steps of that name, as soon as there are so many."""
        path = self.folder / f"{name}.started"
        self.until(lambda: path.exists() and path.read_text().count("\n") >= count)
        return [int(line) for line in path.read_text().split()]

    def open(self, name: str = "a") -> None:
        """Let the gated steps of that name end."""
        self.folder.joinpath(f"{name}.gate").touch()

    def run(self, cluster: Cluster, spec: StepSpec) -> Outcome:
        """Dispatch a step and wait for its end."""
        outcome = cluster.wait(cluster.dispatch(spec), HANG_S)
        assert outcome.status.ended, outcome
        return outcome

    def log(self, cluster: Cluster, step: str) -> str:
        """The whole log of a step so far."""
        return b"".join(cluster.logs(step)).decode()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until something that only the outside world can tell is so."""
        end = time.monotonic() + HANG_S
        while not true():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.005)

    def alive(self, pid: int) -> bool:
        """Whether a process exists and is no zombie."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def close(self) -> None:
        """Close every dispatcher, and end what outlives it."""
        for cluster in self._opened:
            cluster.close()
        self._member.end()


class OnNomad:
    """A namespace of its own on a Nomad cluster, and dispatchers of projects below a folder."""

    def __init__(self, folder: Path, servers: Any, namespace: str = "") -> None:
        self.folder, self.servers = folder, servers
        name = namespace or f"ns-{folder.parent.name}-{folder.name}"
        self.namespace = re.sub(r"[^a-z0-9-]+", "-", name.lower())[:100].strip("-")
        servers.make_namespace(self.namespace)
        folder.joinpath("token").write_text(servers.token)

    def place(self, address: str = "", **options: str) -> str:
        """The place as it stands in rdv.toml, without its scheme."""
        options.setdefault("driver", "raw_exec")
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"{self.namespace}?address={address or self.servers.address}&token_file={self.folder}/token{more}"

    def cluster(self, project: str = ".rdv", address: str = "", **options: str) -> Any:
        """A dispatcher of a project."""
        from rdv.backends.nomad.cluster import NomadCluster

        return NomadCluster(self.folder / project, self.place(address, **options))

    def member(self) -> Member:
        """The member of the contract suite: as many steps fit as max_parallel says, by the memory that they reserve."""
        whole = self.servers.memory_mb
        return Member(
            open=lambda max_parallel: self.cluster(), memory_mb=lambda fit: whole // fit, many=24, end=self.end
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request about this namespace, with the management token."""
        return self.servers.call(method, f"{path}{'&' if '?' in path else '?'}namespace={self.namespace}", body)

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs of the namespace, in short."""
        found: list[dict[str, Any]] = self.call("GET", "/v1/jobs").json()
        return found

    def end(self) -> None:
        """End what still runs, and wait until what it reserved is free."""
        left = [job["ID"] for job in self.jobs() if job["ParentID"] and job["Status"] != "dead"]
        for job in left:
            self.call("DELETE", f"/v1/job/{job}")
        until = time.monotonic() + HANG_S
        while left and time.monotonic() < until:
            states = {one["ClientStatus"] for one in self.call("GET", "/v1/allocations").json()}
            if not states & {"pending", "running"}:
                return
            time.sleep(0.02)
