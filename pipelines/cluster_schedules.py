"""Schedules of an environment whose pipelines run as jobs of a cluster: the cluster's clock begins them, not `rdv up`.

The record is the registry's, as for the embedded ones; what is added is a periodic job of the cluster, and a lock in
the registry under which each training runs, for the cluster lets a training begin that was asked for while one runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

from msgspec.structs import replace

from rdv.backends import select
from rdv.backends.ports import Timetable
from rdv.clock import Clock
from rdv.config import Project
from rdv.cron import Cron
from rdv.errors import LostRace, NotFound, RdvError
from rdv.pipelines.on_cluster import for_schedule, submit
from rdv.pipelines.runs.asked import asked, encode
from rdv.pipelines.runs.every import Runs
from rdv.pipelines.runs.records import OPEN, RunRecord
from rdv.pipelines.runs.runner import TrainRequest
from rdv.pipelines.schedules.lock import ScheduleLock
from rdv.pipelines.schedules.moments import due_of_job, run_of_job
from rdv.pipelines.schedules.records import RunStatus, Schedule, ScheduledRun, ScheduleRecords, with_entry

Parse = Callable[[str, Sequence[str]], TrainRequest]
"""What a model's train options ask for."""


class ClusterSchedules(ScheduleRecords):
    """The schedules of an environment, and its cluster's jobs that carry them out."""

    def __init__(self, project: Project, parse: Parse, clock: Clock | None = None) -> None:
        registry = select.registry(project)
        super().__init__(registry, clock)
        self._project, self._parse, self._runs = project, parse, Runs(project)

    @cached_property
    def _times(self) -> Timetable:
        return select.timetable(self._project)

    def put(self, model: str, cron: str, arguments: Sequence[str] = ()) -> Schedule:
        """Make a model's schedule, or change the one it has. UsageError also for what the cluster's clock cannot."""
        Cron.parse(cron).plain()
        made = super().put(model, cron, arguments)
        self._tell_cluster(made)
        return made

    def pause(self, model: str) -> Schedule:
        """Train no more until resumed; what runs goes on."""
        paused = super().pause(model)
        self._tell_cluster(paused)
        return paused

    def resume(self, model: str) -> Schedule:
        """Train again from the next moment on."""
        resumed = super().resume(model)
        self._tell_cluster(resumed)
        return resumed

    def remove(self, model: str) -> None:
        """Forget a schedule and its history; what runs goes on, and ends as any run. NotFound when there is none."""
        self.get(model)
        self._times.remove(model)
        super().remove(model)

    def get(self, model: str) -> Schedule:
        """A model's schedule; ends of its trainings that nobody has seen before are written down."""
        found = super().get(model)
        if found != self.read(model):
            with suppress(RdvError):
                return self.change(model, self._with_losses)
        return found

    def begin_now(self, model: str) -> RunRecord:
        """Begin a training now, whatever the schedule says. LostRace while another scheduled training of it runs."""
        schedule = self.get(model)
        holder = ScheduleLock(self._registry, model).holder()
        live = [job for job, one in self._times.launched(model).items() if not one.outcome.status.ended]
        if holder or live:
            raise busy(model, holder or run_of_job(live[0]))
        return submit(self._project, self._parse(model, schedule.arguments), scheduled=True)

    def entry(self, model: str, run: str) -> ScheduledRun | None:
        """What a schedule's history says of a run."""
        return next((one for one in self.get(model).history if one.run == run), None)

    def _tell_cluster(self, schedule: Schedule) -> None:
        request = self._parse(schedule.model, schedule.arguments)
        one = asked(self._project, request, select.pipelines(self._project).folder or str(self._project.folder))
        self._times.put(schedule.model, schedule.cron, encode(for_schedule(one)), not schedule.paused)

    def _with_losses(self, schedule: Schedule) -> Schedule:
        """The schedule with the ends of trainings that could not say so themselves."""
        history = tuple(self._as_it_stands(one) for one in schedule.history)
        found = replace(schedule, history=history)
        with suppress(RdvError):  # whoever may not ask the cluster sees what the registry has
            for job, one in self._times.launched(schedule.model).items():
                run, due = run_of_job(job), due_of_job(job)
                if one.outcome.status.ended and all(known.run != run for known in found.history):
                    reason = one.outcome.reason or "its job ended without a word"
                    entry = ScheduledRun(status=RunStatus.LOST, due=due, reason=reason, run=run)
                    found = with_entry(found, entry)
        return found

    def _as_it_stands(self, one: ScheduledRun) -> ScheduledRun:
        if one.status is not RunStatus.RUNNING or not one.run:
            return one
        try:
            record = self._runs.find(one.run)
        except NotFound:
            return replace(one, status=RunStatus.LOST, reason="its record is gone")
        return one if record.state in OPEN else end_of(one, record)


def end_of(one: ScheduledRun, record: RunRecord) -> ScheduledRun:
    """A running entry after its run has ended."""
    if record.state == "lost":
        return replace(one, status=RunStatus.LOST, ended=record.ended, reason=record.error)
    status = RunStatus.SUCCEEDED if record.exit_code == 0 else RunStatus.FAILED
    return replace(one, status=status, ended=record.ended, exit_code=record.exit_code, reason=record.error)


def busy(model: str, run: str) -> LostRace:
    """The error of a training that may not begin beside another one."""
    return LostRace(f"a scheduled training of {model} runs already, run {run}", "wait for it: rdv runs list")
