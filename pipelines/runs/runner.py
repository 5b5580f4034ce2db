"""Runs: from a request to train a model to its end, with a record, an exit code, and the root verified."""

from __future__ import annotations

import logging
import os
import platform
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import msgspec
from msgspec.structs import replace

from rdv.backends import select
from rdv.backends.ports import Cluster, Registry
from rdv.clock import SystemClock
from rdv.config import Project
from rdv.errors import Exit, RdvError, StepFailed, UsageError
from rdv.pipelines.base import Context, Store
from rdv.pipelines.metrics import metric
from rdv.pipelines.names import parameters_text
from rdv.pipelines.naming import Catalog, Naming
from rdv.pipelines.periods import Period, parse_date, period_of
from rdv.pipelines.publish import PublishTask, champion_artifact, champion_version
from rdv.pipelines.runs.ender import Ender
from rdv.pipelines.runs.events import Event, OnEvent
from rdv.pipelines.runs.execution import Execution
from rdv.pipelines.runs.joins import Joins
from rdv.pipelines.runs.leftovers import Leftovers
from rdv.pipelines.runs.luigi_threads import build, forget_tasks
from rdv.pipelines.runs.records import LOG, RunFolder, RunRecord, RunState, new_run
from rdv.pipelines.runs.shared import Pulse, SharedRuns
from rdv.pipelines.scratch import sweep_scratch
from rdv.pipelines.sought import Sought
from rdv.pipelines.step import now_text
from rdv.pipelines.sweep import Sweep, coerce, parse_axes
from rdv.pipelines.train import TrainTask, train_class

WAVE = 64
"""Points that Luigi is given at once: its scheduler's cost a task grows with the tasks that it holds (1.1 ms at 200,

8 ms at 3,000), so that a grid of any size costs the same a point.
"""


MOST_POINTS = 1_000_000
AGAIN = frozenset({Exit.FAILED, Exit.UNREACHABLE, Exit.TIMED_OUT, Exit.LOST_RACE})
"""How a run may end that is worth another start of its job; what is done stays done."""


class TrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `rdv train` was asked for. settings: the texts of its -P flags. date: empty = now. granularity,

    max_parallel: empty or 0 = rdv.toml's. release: `module:function` that moves a pointer, called as
    function(registry, model, version, by, clock) when the model says publish = "deploy"; empty: nobody moves it.
    """

    model: str
    settings: tuple[str, ...] = ()
    trials: int = 0
    seed: int = 0
    date: str = ""
    granularity: str = ""
    force: bool = False
    max_parallel: int = 0
    release: str = ""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The start of a run that is a job of a cluster. number: from 1. last: the job is not started again if this fails.

    let_go: whether the job was not asked to end when this process was: then it is started again elsewhere.
    """

    job: str
    number: int
    last: bool
    let_go: Callable[[], bool] = lambda: False


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. exit: the command's exit code. record: what `rdv runs show` tells."""

    exit: Exit
    record: RunRecord


class Prepared:
    """A request that has been understood: nothing was read from a store yet."""

    def __init__(self, project: Project, request: TrainRequest) -> None:
        self.project, self.request = project, request
        self.context = Context(project, request.model)
        self.train: type[TrainTask] = train_class(self.context)
        model = self.context.model
        self.metric = metric(self.context.goal.answer, model.metric, model.direction)
        defaults = {**self.train.defaults}
        axes = parse_axes(request.settings)
        self.train.check_point({**model.params, **dict.fromkeys(axes)})
        defaults |= {name: coerce(name, value, self.train.defaults) for name, value in model.params.items()}
        self.sweep = Sweep(axes, defaults, request.trials, request.seed)
        self.period = _period(request.date, request.granularity or project.config.train.granularity)

    def points(self) -> list[str]:
        """All points as canonical text."""
        if self.sweep.count() > MOST_POINTS:
            raise UsageError(f"{self.sweep.count()} points are more than a million", "draw some: --trials N --seed S")
        return [parameters_text(point) for point in self.sweep.points()]


def count_points(project: Project, request: TrainRequest) -> int:
    """How many points a request has, before anything is made; raises UsageError for a request that makes no sense."""
    return Prepared(project, request).sweep.count()


def train(
    project: Project,
    request: TrainRequest,
    on_event: OnEvent = lambda event: None,
    run: str = "",
    detached: bool = False,
    start: Start | None = None,
) -> RunResult:
    """Train what a request asks for, validate, publish the best, and return how it ended.

    Raises UsageError and its kin for a request that makes no sense; whatever happens after that is in the result.
    SIGTERM and Ctrl-C end the run's steps and then the run, when called in the main thread.
    """
    prepared = Prepared(project, request)
    folder = RunFolder(project.state, run or new_run(), echo=start is not None)
    try:
        return _Run(prepared, folder, on_event, detached, start).carry_out()
    finally:
        folder.close()
        forget_tasks()


def asked_for(prepared: Prepared) -> dict[str, str]:
    """What a run's record says that was asked for."""
    request = prepared.request
    asked = {"settings": " ".join(request.settings), "date": prepared.period.text()}
    if request.trials:
        asked |= {"trials": str(request.trials), "seed": str(request.seed)}
    if request.force:
        asked["force"] = "true"
    return asked


class _Run:
    """One run from its record's first state to its last."""

    def __init__(
        self, prepared: Prepared, folder: RunFolder, on_event: OnEvent, detached: bool, start: Start | None
    ) -> None:
        self._prepared, self._folder, self._on_event, self._start = prepared, folder, on_event, start
        self._pulse: Pulse | None = None
        self._ender = Ender()
        self._record = RunRecord(
            run=folder.path.name, model=prepared.request.model, env=prepared.project.env, pid=os.getpid(),
            detached=detached, arguments=asked_for(prepared), started=now_text(), host=platform.node(),
            job=start.job if start else "", starts=start.number if start else 1,
        )  # fmt: skip
        folder.write(self._record)

    def carry_out(self) -> RunResult:
        project, request = self._prepared.project, self._prepared.request
        code, error = Exit.OK, ""
        execution: Execution | None = None
        cluster: Cluster | None = None
        try:
            with self._ender.listening(), _luigi_log(self._folder):
                sweep_scratch(project.state)
                parallel = request.max_parallel or project.config.train.max_parallel
                registry = select.registry(project)
                joins = self._share(registry)
                cluster = select.cluster(project, parallel)
                self._reap(registry)
                execution = self._execution(select.artifacts(project), registry, cluster, joins)
                self._ender.stop = execution.stop
                code = self._work(execution, parallel)
                if code is Exit.OK:
                    self._verify(execution)
                    self._release(execution)
        except KeyboardInterrupt:
            asked = f"{self._ender.by} ended it" if self._ender.by else "it was interrupted"
            code, error = Exit.INTERRUPTED, f"{asked}; run again: what is done stays done"
        except RdvError as failure:
            code, error = failure.exit_code, str(failure)
        except Exception as failure:  # of a project's own task, or a bug: the record says so, the log shows where
            code, error = Exit.FAILED, f"{failure!r}; see `rdv logs {self._record.run}`"
            self._folder.note(traceback.format_exc())
        finally:
            self._let_go(execution, cluster)
        return self._end(execution, code, error)

    def _reap(self, registry: Registry) -> None:
        """End what earlier runs have left on the cluster; whoever may not, or cannot now, leaves it to the next one."""
        project = self._prepared.project
        if not select.is_remote(project, "cluster"):
            return
        with suppress(RdvError):
            for one in Leftovers(project, registry).reap():
                self._folder.note(f"stopped {one.job} of run {one.run}: {one.reason}")

    def _share(self, registry: Registry) -> Joins | None:
        """Show the run to everybody of the environment, where that is more than this machine."""
        project = self._prepared.project
        if not select.is_remote(project, "registry"):
            return None
        shared = SharedRuns(registry)
        self._pulse = Pulse(shared, self._record, self._ender.end)
        return Joins(shared, self._record.run) if select.is_remote(project, "cluster") else None

    def _execution(self, store: Store, registry: Registry, cluster: Cluster, joins: Joins | None) -> Execution:
        prepared = self._prepared
        champion = champion_artifact(registry, prepared.request.model)
        if champion and store.manifest(champion) is None:
            self._tell(Event(kind="planned", text=f"the champion's artifact {champion} is gone", at=now_text()))
            champion = ""
        naming = Naming(Catalog(store), prepared.project.folder, prepared.request.force)
        execution = Execution(
            self._record.run, prepared.project, prepared.request.model, store, registry, cluster, naming, self._tell,
            champion, joins,
        )  # fmt: skip
        prepared.context.maker = execution
        template = prepared.train(
            context=prepared.context, model=prepared.request.model, period=prepared.period.text(), point=""
        )
        execution.sought = Sought(naming, template, prepared.points(), prepared.metric, store)
        return execution

    def _work(self, execution: Execution, parallel: int) -> Exit:
        """Have Luigi build what is missing, many points in waves, the root last."""
        prepared, sought = self._prepared, execution.sought
        assert sought is not None
        root = PublishTask(
            context=prepared.context, model=prepared.request.model, period=prepared.period.text(), point=""
        )
        pending = sought.pending()
        execution.total, execution.done = len(sought.points), len(sought.points) - len(pending)
        execution.tell("planned", text=f"{len(sought.points)} points, {len(pending)} to train")
        self._record = replace(self._record, points=len(sought.points))
        self._folder.write(self._record)
        if self._pulse:
            self._pulse.tell(self._record)
        if not pending and execution.published(root):
            return Exit.OK
        size = max(WAVE, 16 * parallel)
        for begin in range(0, max(0, len(pending) - size), size):
            wave = [root.sibling(prepared.train, point) for point in pending[begin : begin + size]]
            code = self._build(execution, wave, parallel)
            if code is not Exit.OK:
                return code
        return self._build(execution, [root], parallel)

    def _build(self, execution: Execution, tasks: list[Any], parallel: int) -> Exit:
        code = build(tasks, waiting=parallel + min(parallel, 4))
        if execution.errors:
            raise execution.errors[0][1]
        if code is not Exit.OK:
            raise StepFailed("Luigi could not run every task", f"see `rdv logs {self._record.run}`")
        return code

    def _verify(self, execution: Execution) -> None:
        """The root's manifest and bytes, whatever Luigi thinks of it."""
        version = execution.version
        if version is None:
            raise StepFailed("the run ended without a published version", f"see `rdv logs {self._record.run}`")
        execution.verify(version.artifact)

    def _release(self, execution: Execution) -> None:
        model, request = self._prepared.context.model, self._prepared.request
        if model.publish != "deploy" or not request.release or execution.version is None:
            return
        registry = select.registry(self._prepared.project)
        if champion_version(registry, request.model) != execution.version.version:
            release = _callable(request.release)
            release(registry, request.model, execution.version.version, f"run {self._record.run}", SystemClock())
        self._record = replace(self._record, released=True)

    def _let_go(self, execution: Execution | None, cluster: Cluster | None) -> None:
        """Stop what still runs and remember what steps needed; nothing here may hide how the run ended."""
        with suppress(RdvError, OSError):
            if execution is not None:
                execution.stop()
                execution.peaks.save()
        with suppress(RdvError, OSError):
            if cluster is not None:
                cluster.close()
        self._prepared.context.maker = None

    def _end(self, execution: Execution | None, code: Exit, error: str) -> RunResult:
        states: dict[Exit, RunState] = {
            Exit.OK: "done", Exit.REFUSED: "refused", Exit.INTERRUPTED: "interrupted"
        }  # fmt: skip
        if self._is_started_again(code):
            error = f"start {self._record.starts} ended with {int(code)}, its job starts it again: {error}"
            self._record = replace(self._record, state="queued", error=error)
        else:
            self._record = replace(
                self._record, state=states.get(code, "failed"), exit_code=int(code), ended=now_text(), error=error
            )
        if execution is not None:
            self._record = _told(self._record, execution)
        # the log first: whoever follows it stops reading once the record says that the run has ended
        self._tell(Event(kind="ended", text=error or self._record.state, at=now_text()))
        self._folder.write(self._record)
        if self._pulse and not self._pulse.close(self._record):
            self._folder.note("the registry could not be told how the run ended; whoever looks at the run next does it")
        return RunResult(exit=code, record=self._record)

    def _is_started_again(self, code: Exit) -> bool:
        if self._start is None:
            return False
        if code is Exit.INTERRUPTED:
            return not self._ender.by and self._start.let_go()
        return code in AGAIN and not self._start.last

    def _tell(self, event: Event) -> None:
        self._folder.tell(event)
        self._on_event(event)


def _told(record: RunRecord, execution: Execution) -> RunRecord:
    """The record with what the execution found out."""
    record = replace(record, trained=execution.trained)
    sought = execution.sought
    if sought is not None:
        with suppress(Exception):  # there is no best one yet, or the error that ended the run comes again
            record = replace(record, best=sought.shown(sought.chosen()), artifact=sought.name(sought.chosen()))
    if execution.judged is not None:
        record = replace(record, reasons=execution.judged.reasons)
    if execution.version is not None:
        record = replace(record, version=execution.version.version, metrics=execution.version.metrics)
    return record


def _period(date: str, granularity: str) -> Period:
    return period_of(parse_date(date) if date else datetime.now(UTC), granularity)


def _callable(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UsageError(f"{path!r} is no function", "name it as module:function") from None
    called: Callable[..., Any] = found
    return called


@contextmanager
def _luigi_log(folder: RunFolder) -> Iterator[None]:
    """Send what Luigi has to say into the run's log instead of onto the terminal."""
    handler = logging.FileHandler(folder.path / LOG, encoding="utf-8")
    handler.setLevel(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("luigi", "luigi-interface")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
        handler.close()
