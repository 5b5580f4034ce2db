"""The ports: what rdv asks of a store, a registry and a cluster, in rdv's own words.

Each is the smallest set of calls its users need. Every adapter passes the port's contract suite in
`tests/contract`, the embedded one first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec


class Blobs(Protocol):
    """Immutable named bytes. Keys are path-safe segments joined by `/`; a written key never changes.

    All methods raise Unreachable, NotAuthorised; keys outside the store's alphabet raise UsageError.
    """

    def put(self, key: str, source: Path) -> None:
        """Store a copy of a file durably under a key nobody reads before its manifest names it; else LostRace."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Store bytes durably if and only if the key is absent, whole or not at all; else LostRace."""
        ...

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, None when absent."""
        ...

    def fetch(self, key: str, into: Path) -> Path:
        """A local file with the key's bytes: `into`, or the stored file itself. NotFound when absent."""
        ...

    def keys(self, prefix: str, skip: str = "") -> Iterator[str]:
        """All keys that begin with a prefix, sorted; one listing, not a request a key.

        skip: leave out what lies below a segment of this name behind the prefix; folders of it need not be listed.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove a key; absent is fine."""
        ...

    def unfinished(self, older_than_s: float) -> list[str]:
        """What writers left aside that ended in the middle, as far as it was begun longer ago than so many seconds.

        Names for `discard`. Where it cannot be told from what is being written now, only its age tells.
        """
        ...

    def discard(self, unfinished: str) -> None:
        """Remove something that `unfinished` told of; gone already is fine. No key is touched."""
        ...


class Entry(msgspec.Struct, frozen=True):
    """A registry value and the index of its last change (index > 0, grows with every change of the key)."""

    value: bytes
    index: int


class Registry(Protocol):
    """Small values with check-and-set and watch: pointers, versions, policies. Values up to 512 KB."""

    def get(self, key: str) -> Entry | None:
        """The newest entry of a key, consistent with every write that has returned; None when absent."""
        ...

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        """Write a value and return its new entry.

        expect: None = whatever is there, 0 = only if absent, n = only if its index is n; else LostRace.
        """
        ...

    def delete(self, key: str, expect: int | None = None) -> None:
        """Remove a key, with the same `expect`; absent is fine when expect is None."""
        ...

    def list(self, prefix: str) -> dict[str, Entry]:
        """All entries whose key begins with a prefix, sorted by key."""
        ...

    def watch(self, key: str, index: int, wait_s: float) -> Entry | None:
        """Return the key's entry as soon as its index differs from `index` (0 = absent), at the latest after wait_s.

        Blocks the calling thread. A return is no proof of change: compare the index.
        """
        ...


class Secrets(Protocol):
    """Values that are shown to nobody: no error, log line or `repr` of an adapter ever holds one."""

    def get(self, name: str) -> str:
        """The value of a secret, by `path/field`. NotFound when absent, NotAuthorised, Unreachable."""
        ...


class Certificate(msgspec.Struct, frozen=True):
    """A certificate to show to the other end, and the authorities whose certificates are taken: PEM, one or more.

    key: of the first one of the chain. until: epoch seconds to which it is valid, infinite where that is not known.
    """

    chain: bytes
    key: bytes
    authorities: bytes
    until: float = math.inf

    def __repr__(self) -> str:
        return f"Certificate(until={self.until})"


class Certificates(Protocol):
    """Where a process gets its certificate from; no error, log line or `repr` of an adapter ever holds the key."""

    def current(self) -> Certificate:
        """The certificate to show from now on, a new one well before the last one's time is over; may block.

        Raises ConfigError, Unreachable, NotAuthorised when there is none that can be used.
        """
        ...


class Status(StrEnum):
    """How a step stands. Allowed moves: queued -> running -> one of the rest; queued -> cancelled | lost."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the step."""
        return self not in (Status.QUEUED, Status.RUNNING)


class Resources(msgspec.Struct, frozen=True):
    """What a step may use: memory of its whole process group, processors, wall clock. `name` is the class's name."""

    name: str = "small"
    memory_mb: int = 512
    cpus: int = 1
    wall_s: float = 3600.0


class StepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One step to run somewhere else.

    entry: `module:function` taking the decoded payload; it runs in a process of its own, in `folder` when given.
    payload: JSON-able, at most 16 KiB encoded. token: idempotency: while a step with this token is queued or
    running anywhere on this cluster, dispatching it again joins it instead of starting another.
    """

    run: str
    name: str
    token: str
    entry: str
    payload: dict[str, Any]
    resources: Resources = Resources()
    folder: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a step stands or ended. joined: it belongs to another dispatcher. peak_memory_bytes: 0 when unknown."""

    step: str
    status: Status
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    wall_s: float = 0.0
    peak_memory_bytes: int = 0
    joined: bool = False


class Cluster(Protocol):
    """Runs steps as processes of their own, bounded in memory and wall time, and tells how they ended.

    outlived: whether a step goes on when its dispatcher is closed or gone; where not, it ends with its dispatcher.
    ordered: whether this adapter keeps the queue, so that no more than its `max_parallel` steps of a dispatcher run at
    once and those that wait start in the order of their dispatch; where not, the cluster's capacity bounds what runs,
    over all dispatchers, and which of those that wait starts first is its own affair.
    """

    outlived: bool
    ordered: bool

    def dispatch(self, spec: StepSpec) -> str:
        """Hand a step over and return its id, path-safe and unique.

        The step queues while the cluster is full; the call never waits for room.
        """
        ...

    def wait(self, step: str, timeout_s: float | None = None) -> Outcome:
        """The step's outcome once it has ended, or as it stands after timeout_s. NotFound for an unknown id."""
        ...

    def cancel(self, step: str, reason: str) -> None:
        """End a step with its whole process group; an ended one stays as it is."""
        ...

    def logs(self, step: str, follow: bool = False) -> Iterator[bytes]:
        """The step's output (stdout and stderr together) in chunks; with follow, until the step has ended."""
        ...

    def steps(self, run: str) -> Mapping[str, Outcome]:
        """All steps of a run that this cluster remembers, by id, in order of dispatch."""
        ...

    def close(self) -> None:
        """Let go of what this adapter holds here; unless it is `outlived`, its steps are cancelled. Twice is fine."""
        ...


class TaskClass(msgspec.Struct, frozen=True, kw_only=True):
    """A task class of one of a project's models, as a job runs it by itself.

    task: `module:Class`. family: what it makes, part of the job's id. memory_mb: what the job reserves. reads: the
    roles of the artifacts that it is given.
    """

    project: str
    env: str
    model: str
    task: str
    family: str
    memory_mb: int
    reads: tuple[str, ...] = ()


class JobChange(msgspec.Struct, frozen=True, kw_only=True):
    """What registering would do, or has done, to a job. differs: what in it is not as it ought to be."""

    job: str
    namespace: str
    change: Literal["new", "changed", "unchanged"]
    about: str = ""
    differs: tuple[str, ...] = ()


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A registered job of ours. pending, running, dead: how many of its dispatches stand so."""

    job: str
    namespace: str
    kind: str
    about: str = ""
    memory_mb: int = 0
    pending: int = 0
    running: int = 0
    dead: int = 0


class Reaped(msgspec.Struct, frozen=True, kw_only=True):
    """A dispatch that was stopped because nobody needs it any more, or because it does not end by itself."""

    job: str
    namespace: str
    run: str
    reason: str


class Jobs(Protocol):
    """The jobs that a cluster keeps: what may be dispatched on it, by rdv and by hand."""

    def register(
        self, classes_mb: Sequence[int], tasks: Sequence[TaskClass], plan_only: bool = False
    ) -> Sequence[JobChange]:
        """Register the jobs of resource classes, task classes and pipelines; plan_only: tell what that would do.

        LostRace when somebody else changed a job meanwhile.
        """
        ...

    def list(self) -> Sequence[JobInfo]:
        """The registered jobs of ours, by id."""
        ...

    def prune(
        self, classes_mb: Sequence[int], tasks: Sequence[TaskClass], older_than_s: float, plan_only: bool = False
    ) -> Sequence[JobInfo]:
        """Forget jobs that nobody needs any more; plan_only: tell which. See decision 0046.

        Those are jobs that `register` would not make for this project, of which nothing waits or runs, and which were
        registered longer ago than so many seconds. Another project's job of a size of step is among them only when it
        is as idle and old; it is registered again by that project's next step.
        """
        ...

    def reap(
        self, ended_s: Callable[[str], float | None], is_awaited: Callable[[str], bool] = lambda artifact: False
    ) -> Sequence[Reaped]:
        """Stop what nobody waits for any more and what runs past its wall clock limit; see decision 0026.

        ended_s: when a run ended, in seconds since the epoch, None for one that goes on or is not known here.
        is_awaited: told the first part of a step's token, up to `#`, says whether another run waits for that step.
        """
        ...


PIPELINE_STARTS = 3
"""How often a pipeline's job is started, the first time and when it failed, before that counts as its end."""


class PipelineJob(msgspec.Struct, frozen=True):
    """A pipeline's job. stopped: somebody asked for its end, or for its node's, which may not have come yet: it is not

    started again.
    """

    outcome: Outcome
    stopped: bool = False


class Pipelines(Protocol):
    """Runs whole pipelines as jobs of a cluster, beside the steps that these dispatch.

    A job that fails is started again, with its state folder when that is still there; see decision 0027. folder: where
    projects lie on its nodes; empty: in the same place as here.
    """

    folder: str

    def submit(self, run: str, request: bytes) -> str:
        """Begin a pipeline, whose entry is told the run and the request; its job. The same run again: the same job."""
        ...

    def look(self, job: str) -> PipelineJob:
        """How a job stands, or ended; NotFound when nobody knows it any more."""
        ...

    def left(self, job: str, path: str) -> bytes:
        """A file of a job's state folder; empty when it is not there."""
        ...

    def stop(self, job: str) -> None:
        """Ask a job to end, and start it no more; an ended one and an unknown one stay as they are."""
        ...

    def logs(self, job: str, ended: Callable[[], bool] | None = None) -> Iterator[bytes]:
        """A job's output so far, in chunks; with `ended`, until that says so. NotFound once it is forgotten."""
        ...

    def stop_steps(self, run: str, spared: Callable[[str], bool]) -> list[str]:
        """End the steps that a run has dispatched, from wherever, and return their jobs.

        spared: told the first part of a step's token, up to `#`, says whether to leave that step alone.
        """
        ...


class Timetable(Protocol):
    """Starts pipelines again and again, at the moments of a cron expression, in UTC; never two of a name at once."""

    def put(self, name: str, cron: str, request: bytes, on: bool) -> None:
        """Start a pipeline at every moment from now on, or, when not on, at none; in place of what there was.

        UsageError for an expression of `rdv.cron` that means something else there.
        """
        ...

    def remove(self, name: str) -> None:
        """Start it no more and forget it; what runs goes on. Absent is fine."""
        ...

    def launched(self, name: str) -> Mapping[str, PipelineJob]:
        """The jobs that were started under a name and that are remembered, by id, oldest first."""
        ...
