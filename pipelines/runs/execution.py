"""The execution of a run: what Luigi's tasks ask for is looked up, handed to the cluster, waited for and verified."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import msgspec

from rdv.backends.ports import Cluster, Outcome, Registry, Resources, Status, StepSpec
from rdv.config import Environment, Project
from rdv.errors import CorruptArtifact, Interrupted, NotAuthorised, RdvError, Refused, StepFailed, Unreachable
from rdv.pipelines.attempts import Attempt, after
from rdv.pipelines.base import Store, Task, class_path
from rdv.pipelines.gate import Verdict
from rdv.pipelines.memory import Peaks
from rdv.pipelines.names import canonical_parameters
from rdv.pipelines.naming import Naming
from rdv.pipelines.publish import publish_version, published_version, version_record
from rdv.pipelines.runs.events import Event, OnEvent
from rdv.pipelines.runs.joins import Joins
from rdv.pipelines.scratch import scratch_folder
from rdv.pipelines.sought import Sought, shown
from rdv.pipelines.step import Payload, now_text, pack, publish_config
from rdv.pipelines.validate import ValidateTask
from rdv.records import Version

_PAUSE_S = 0.5
AWAY_S = 60.0
"""How long a cluster may not answer before the run gives up; what it has dispatched goes on."""
T = TypeVar("T")
_LOOK_S = 2.0
"""How long a stopped run may take to notice that it left a step to another one."""


class Execution:
    """One run's work. The pipeline process has one; tasks reach it as their context's maker."""

    def __init__(
        self, run: str, project: Project, model: str, store: Store, registry: Registry, cluster: Cluster,
        naming: Naming, on_event: OnEvent, champion: str, joins: Joins | None = None,
    ) -> None:  # fmt: skip
        self.run, self._project, self._model = run, project, model
        self._store, self._registry, self._cluster, self._naming = store, registry, cluster, naming
        self._on_event, self._champion, self._joins = on_event, champion, joins
        self.peaks = Peaks(registry)
        self.version: Version | None = None
        self.judged: Verdict | None = None
        self.trained = 0
        self.sought: Sought | None = None
        self.errors: list[tuple[str, RdvError]] = []
        self.total = 0
        self.done = 0
        self._guard, self._config = threading.Lock(), ""
        self._running: dict[str, str] = {}
        self._left: set[str] = set()
        self._stopping = threading.Event()

    def pending(self) -> list[str]:
        """The points of the sweep without a model."""
        assert self.sought is not None
        return self.sought.pending()

    def chosen(self) -> str:
        """The best point; NotYet while one is pending."""
        assert self.sought is not None
        return self.sought.chosen()

    def champion(self) -> str:
        """The name of the artifact that is served now, empty when there is none."""
        return self._champion

    def exists(self, task: Task) -> bool:
        """Whether a task's artifact exists."""
        return self._naming.exists(task)

    def make(self, task: Task) -> None:
        """Return when a task's artifact exists: found, made by a step, or made by another run's step."""
        try:
            self._make(task)
        except Exception as error:
            known = error if isinstance(error, RdvError) else StepFailed(f"{task.family} failed: {error!r}")
            self.errors.append((task.family, known))
            self.tell("failed", task, text=str(known))
            raise

    def published(self, task: Task) -> bool:
        """Whether the chosen model has a verdict that allows it and is in the registry."""
        record = self._record(task)
        if record is None or not self.verdict(task).passed:
            return False
        there = published_version(self._registry, record.model, record.version)
        if there is None or (there.artifact, there.digest) != (record.artifact, record.digest):
            return False
        self.version = there
        return True

    def publish(self, task: Task) -> None:
        """Put the chosen model into the registry; Refused, with every reason, when its verdict says no."""
        try:
            record, verdict = self._record(task), self.verdict(task)
            assert record is not None
            self.judged = verdict
            self.tell("verdict", task.sibling(ValidateTask), text="; ".join(verdict.reasons) or "passed")
            if not verdict.passed:
                raise Refused(
                    f"{record.model} {record.version} was not published: {'; '.join(verdict.reasons)}",
                    f"it is kept as {record.artifact}",
                )
            publish_version(self._registry, record)
        except RdvError as error:
            self.errors.append((task.family, error))
            raise
        self.version = record
        self.tell("published", text=f"{record.model} {record.version}")

    def verify(self, name: str) -> None:
        """Raise CorruptArtifact unless an artifact's manifest and every byte that it names are there."""
        problems = self._store.verify(name)
        if problems:
            raise CorruptArtifact(problems[0], f"see `rdv artifacts verify {name}`")

    def verdict(self, task: Task) -> Verdict:
        """The verdict that a publishing task depends on; it must have been reached."""
        manifest = self._naming.manifest(task.sibling(ValidateTask))
        assert manifest is not None
        return msgspec.convert(manifest.extra["verdict"], Verdict)

    def _record(self, task: Task) -> Version | None:
        """The version that would be published; None before the verdict."""
        validate = task.sibling(ValidateTask)
        if self._naming.manifest(validate) is None:
            return None
        read = self._naming.upstream(validate)
        assert read is not None
        return version_record(task.model, read["model"], task.span, read["report"].metrics, self.run)

    def stop(self, task: Task | None = None) -> None:
        """Cancel every step of this run, whichever task asks; leave alone those that another run waits for."""
        self._stopping.set()
        with self._guard:
            steps = dict(self._running)
        for step, artifact in steps.items():
            self._end(step, artifact)

    def _end(self, step: str, artifact: str) -> None:
        others = self._joins.others(artifact) if self._joins else []
        if not others:
            return self._cluster.cancel(step, "its run was stopped")
        with self._guard:
            known, self._left = step in self._left, self._left | {step}
        if not known:
            self.tell("left", step=step, text=f"to run {', '.join(others)}")

    def tell(self, kind: str, task: Task | None = None, step: str = "", text: str = "") -> None:
        """Send an event."""
        with self._guard:
            self.done += kind == "done" and task is not None and task.family == "train"
            what = (task.family, shown(task)) if task else ("", "")
            self._on_event(
                msgspec.convert(
                    {
                        "kind": kind, "task": what[0], "point": what[1], "step": step, "text": text,
                        "done": self.done, "total": self.total, "at": now_text(),
                    },
                    Event,
                )
            )  # fmt: skip

    def _make(self, task: Task) -> None:
        payload = self._payload(task)
        kind = f"{task.family}/{task.scope}"
        train = self._project.config.train
        attempt = Attempt(self.peaks.choose(kind, train.memory_mb))
        while True:
            if self._naming.catalog.look(payload.name) is not None:
                self.tell("done", task, text="it was there")
                return
            if self._stopping.is_set():
                raise Interrupted("the run was stopped", "run again; what is done stays done")
            outcome = self._attempt(task, payload, attempt)
            self.peaks.note(kind, outcome.peak_memory_bytes)
            made = self._naming.catalog.look(payload.name) if outcome.status is Status.SUCCEEDED else None
            if made is not None:
                self.trained += task.family == "train" and made.run == self.run
                self.tell("done", task, outcome.step, f"{outcome.wall_s:.1f} s")
                return
            then = after(outcome, attempt, f"{task.family} {shown(task)}".strip(), train.retries, train.memory_mb)
            if isinstance(then, RdvError):
                raise then
            text = f"{outcome.status.value}: {outcome.reason}; again with {then.memory_mb} MB"
            self.tell("again", task, outcome.step, text)
            if then.failures > attempt.failures:
                self._stopping.wait(_PAUSE_S * then.failures)
            attempt = then

    def _attempt(self, task: Task, payload: Payload, attempt: Attempt) -> Outcome:
        train = self._project.config.train
        resources = Resources(name=f"{attempt.memory_mb}mb", memory_mb=attempt.memory_mb, cpus=1, wall_s=train.wall_s)
        spec = StepSpec(
            run=self.run,
            name=task.family,
            token=f"{payload.name}#{attempt.number}",
            entry=task.entry,
            payload=pack(payload, self._store, self._project.state),
            resources=resources,
            folder=str(self._project.folder),
        )
        step = self._patiently(lambda: self._cluster.dispatch(spec))
        with self._guard:
            self._running[step] = payload.name
        joined = False
        try:
            joined = self._patiently(lambda: self._cluster.wait(step, 0)).joined
            if joined and self._joins:
                self._joins.add(payload.name)
            self.tell("joined" if joined else "dispatched", task, step)
            if self._stopping.is_set():
                self._end(step, payload.name)
            return self._wait(step)
        finally:
            with self._guard:
                del self._running[step]
            if joined and self._joins:
                self._joins.drop(payload.name)

    def _wait(self, step: str) -> Outcome:
        """The outcome of a step; that of one which is left to another run as soon as it is."""
        while True:
            outcome = self._patiently(lambda: self._cluster.wait(step, _LOOK_S if self._joins else None))
            if outcome.status.ended:
                return outcome
            if step in self._left:
                return msgspec.structs.replace(outcome, status=Status.CANCELLED, reason="it is left to another run")

    def _patiently(self, call: Callable[[], T]) -> T:
        """The answer of a cluster that may be away for a while, as while it elects a leader: its steps go on.

        One that has just come back may not yet know whom it lets in.
        """
        until = 0.0
        while True:
            try:
                return call()
            except (Unreachable, NotAuthorised) as error:
                if not until and isinstance(error, NotAuthorised):
                    raise
                if not until:
                    until = monotonic() + AWAY_S
                    self.tell("away", text=str(error))
                if monotonic() > until or self._stopping.wait(_PAUSE_S):
                    raise

    def _payload(self, task: Task) -> Payload:
        name, upstream = self._naming.name(task), self._naming.upstream(task)
        if name is None or upstream is None:
            raise StepFailed(f"{task.family} cannot run: what it reads is missing", "this is a bug: report it")
        return Payload(
            name=name,
            task=class_path(type(task)),
            model=task.model,
            period=task.period,
            point=task.point,
            upstream={role: manifest.name for role, manifest in upstream.items()},
            external=self._naming.external(task),
            parameters=canonical_parameters({**task.parameters(), "period": task.span}),
            code=self._naming.code(task),
            config=self._config_name(),
            env=self._project.env,
            environment=self._project.config.environments.get(self._project.env, Environment()),
            run=self.run,
        )

    def _config_name(self) -> str:
        with self._guard:
            if not self._config:
                with scratch_folder(self._project.state) as scratch:
                    self._config = publish_config(self._store, self._project, self._model, scratch)
            return self._config
