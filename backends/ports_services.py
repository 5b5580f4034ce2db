"""The ports of serving on a cluster, in rdv's own words: the serving jobs, canaries beside them, the catalog.

As in `rdv.backends.ports`: the smallest sets of calls that their users need, each with a contract suite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, Self

import msgspec

from rdv.ids import digest_bytes
from rdv.manifest import Manifest
from rdv.records import Pin

Role = Literal["gateway", "worker", "decoy", "proxy"]
Say = Callable[[str], object]
"""Told one line of progress at a time."""


def job_name(role: str, model: str = "") -> str:
    """A serving job for people: its role, and a worker's model."""
    return f"{role} {model}".strip()


class ServiceJob(msgspec.Struct, frozen=True, kw_only=True):
    """One serving job as it ought to be: so many instances of a role, each scaled apart from the other jobs.

    project, env: whose. model: a worker's, else empty. count: of instances, until `scale` says another; that stays
    until this number itself changes. told: the project as its instances are to read it
    (`rdv.serving.processes.project_file`). pointer: the registry key of the worker's pointer; reload: how it hears of a
    move. port: where clients find a proxy, 0: any; body_bytes: the largest request. stop_s: how long a clean stop
    takes. disk_mb: of kept state.
    """

    project: str
    env: str
    role: Role
    model: str = ""
    count: int = 1
    memory_mb: int = 512
    cpu_mhz: int = 500
    disk_mb: int = 300
    told: str = ""
    pointer: str = ""
    reload: Literal["template", "watch", "restart"] = "watch"
    port: int = 0
    body_bytes: int = 65536
    stop_s: float = 10.0

    @property
    def name(self) -> str:
        """The job for people: its role, and a worker's model."""
        return job_name(self.role, self.model)


class ServiceChange(msgspec.Struct, frozen=True, kw_only=True):
    """What applying does to one job: exactly this. It can be kept as JSON and applied later.

    job: its id. name: as `ServiceJob.name`. index: of the state that it was planned over, 0: there was none. differs:
    what in it is not as it ought to be. spec: what will be submitted, in the adapter's own terms; empty: an end.
    held: why not all of its instances could be placed at the moment of the plan.
    """

    job: str
    name: str
    change: Literal["new", "changed", "unchanged", "removed"]
    index: int = 0
    differs: tuple[str, ...] = ()
    spec: dict[str, Any] = {}
    held: tuple[str, ...] = ()


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A change that has begun. mark: what to follow, in the adapter's terms; empty: nothing more will happen."""

    job: str
    name: str
    mark: str = ""


class Rolled(msgspec.Struct, frozen=True, kw_only=True):
    """A change that has ended well. healthy: instances that run and pass their checks."""

    job: str
    name: str
    healthy: int = 0
    waited_s: float = 0.0


class ServiceInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a job. healthy: None while that is not known. canary: begun by `Canaries.start`, not promoted.

    state: `pending`, `running`, `failed` or `ended`. restarts: since it was placed. reason: of its last failure.
    """

    id: str
    state: str
    healthy: bool | None = None
    canary: bool = False
    restarts: int = 0
    reason: str = ""


class ServiceState(msgspec.Struct, frozen=True, kw_only=True):
    """How a job stands. count: of instances that are wanted, without canaries. pin: of the newest version of the job.

    rolling: whether a change is on its way.
    """

    job: str
    role: str
    model: str = ""
    count: int = 0
    pin: Pin | None = None
    rolling: bool = False
    instances: tuple[ServiceInstance, ...] = ()

    @property
    def name(self) -> str:
        """The job for people: its role, and a worker's model."""
        return job_name(self.role, self.model)


class Services(Protocol):
    """The serving jobs of one project in one environment.

    All methods raise Unreachable, NotAuthorised. Where `local`, the processes are those of `rdv serve` on this
    machine. folder: where projects lie on the nodes; empty: in the same place as here. identities: the servers, by
    the schemes of their places, that know an instance by an identity of its own.
    """

    local: bool
    folder: str
    identities: Collection[str]

    def plan(self, wanted: Sequence[ServiceJob], anew: bool = False) -> Sequence[ServiceChange]:
        """What would make the jobs what they ought to be, in the order to apply it; nothing is changed.

        A job of this project that is not wanted is to be removed. A pin and a scaled count stay as they are. anew:
        every instance is to be replaced, also where nothing differs; UsageError where nobody can do that.
        """
        ...

    def apply(self, change: ServiceChange) -> Applied:
        """Begin a change, over the very state that it was planned over; else LostRace, and nothing is done.

        An unchanged job's mark is that of a change which was begun before and is on its way still.
        """
        ...

    def follow(self, applied: Applied, say: Say, timeout_s: float) -> Rolled:
        """Return when a change is done: every instance runs and is healthy.

        say: told what happens and, of a failure, reasons and the last lines of what failed wrote. RolloutFailed when it
        failed, also when the state before was brought back by itself; TimedOut.
        """
        ...

    def look(self) -> Sequence[ServiceState]:
        """The jobs of this project, by role and model."""
        ...

    def scale(self, role: Role, model: str, count: int) -> Applied:
        """Have so many instances of a job. NotFound without it, LostRace while another change is on its way."""
        ...

    def restart(self, job: str, instance: str, timeout_s: float) -> None:
        """Start one instance again where it is, and return when it is healthy; TimedOut, NotFound."""
        ...


class CanaryState(msgspec.Struct, frozen=True, kw_only=True):
    """How the canaries of a model stand.

    state: `starting`; `healthy` (all of them run and pass their checks); `failed` (reason says why, none of them may
    run any more); `promoted` (every worker of the model is what the canaries were); `promoting`; `gone` (dropped, or
    replaced by somebody else). reason: also why they have not started yet. remedy: what to type about that, where it is
    known.
    """

    mark: str
    pin: Pin
    state: Literal["starting", "healthy", "failed", "promoting", "promoted", "gone"]
    wanted: int = 0
    healthy: int = 0
    reason: str = ""
    remedy: str = ""


class Canaries(Protocol):
    """Workers of another version beside those that serve, a set of them a model. All calls may be repeated."""

    def start(self, model: str, pin: Pin, count: int, manifest: Manifest | None = None) -> str:
        """Begin so many workers with a pin, beside the model's others, which stay; the mark to ask for them by.

        manifest: of the pin's version, when the cluster is to bring its file into each worker's place; one that cannot
        leaves that to the workers. With the same pin and count again: the same mark. With another count so many instead
        of those that run, under another mark; there may be none of them for a moment. NotFound when the model has no
        job, LostRace while another change of its job is on its way.
        """
        ...

    def find(self, model: str, pin: Pin) -> str:
        """The mark of the workers with a pin; empty when the model's job has another one, or none."""
        ...

    def look(self, model: str, mark: str) -> CanaryState:
        """How they stand, as told by the cluster itself, at once."""
        ...

    def promote(self, model: str, mark: str) -> None:
        """Begin to make all workers of the model what these are, one after the other; `look` says when it is done.

        Refused while they are not all healthy. Promoted ones stay so.
        """
        ...

    def drop(self, model: str, mark: str) -> None:
        """End them and have the model's job be what it was before the first with their pin; gone ones are fine.

        When it returns the end has been asked for: `look` says `gone` when none of them runs.
        """
        ...


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One running gateway. id: unique among its like. host, port: where its bus listens.

    meta: small strings beside it, such as `ops` (host:port of its read-only listener), `url` (of its data listener),
    `version`; the name `instance` is the catalog's own.
    """

    id: str
    host: str
    port: int
    meta: Mapping[str, str] = {}


class Found(msgspec.Struct, frozen=True):
    """One look at a service: its instances, sorted by id, and an index above 0 that is equal when they are equal."""

    instances: tuple[Instance, ...]
    index: int

    @classmethod
    def of(cls, instances: Iterable[Instance]) -> Self:
        """What a look that saw these instances tells."""
        seen = tuple(sorted(instances, key=lambda one: one.id))
        told = msgspec.json.encode(seen, order="deterministic")
        return cls(seen, int(digest_bytes(told)[:15], 16) + 1)


class Catalog(Protocol):
    """Who serves under a name, as far as they said so lately; calls are from threads, processes and forks alike.

    All methods raise Unreachable, NotAuthorised; what is outside the alphabet (`catalog_rules`) UsageError.
    """

    def announce(self, service: str, instance: Instance, ttl_s: float) -> None:
        """Have an instance be found for ttl_s from now, instead of what was said of its id before.

        To be repeated well within ttl_s. A look elsewhere may see it a moment later.
        """
        ...

    def withdraw(self, service: str, instance_id: str) -> None:
        """Have an instance be found no more; absent is fine."""
        ...

    def find(self, service: str) -> Found:
        """The instances that are healthy; none for a service that nobody announced."""
        ...

    def watch(self, service: str, index: int, wait_s: float) -> Found:
        """Return what is found as soon as its index differs from `index` (0: at once), at the latest after wait_s.

        Blocks the calling thread. A return is no proof of change: compare the index.
        """
        ...
