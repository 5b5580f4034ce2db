"""The part of a schedule in a run that it began as a job: the lock, and the entry of its history."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from msgspec.structs import replace

from rdv.backends.ports import Registry
from rdv.clock import Clock
from rdv.cron import Cron
from rdv.errors import NotFound
from rdv.pipelines.runs.records import RunRecord
from rdv.pipelines.schedules.lock import ScheduleLock
from rdv.pipelines.schedules.records import (
    RunStatus,
    Schedule,
    ScheduledRun,
    ScheduleRecords,
    ended,
    lost,
    moment_of,
    text_of,
    with_end,
    with_entry,
)

_COUNTED = 10_000


class RunOfSchedule:
    """One run of a schedule, through all the starts of its job. due: the moment that it is for, empty for `run now`."""

    def __init__(self, registry: Registry, model: str, run: str, due: str, clock: Clock | None = None) -> None:
        self._records, self._lock = ScheduleRecords(registry, clock), ScheduleLock(registry, model)
        self._model, self._run, self._due = model, run, due

    def enter(self) -> str:
        """Begin, or go on after a new start; empty, or the run that trains already, so that this one may not."""
        if holder := self._lock.take(self._run):
            if self._due:
                reason = f"run {holder} still ran"
                self._change(lambda one: with_entry(one, ScheduledRun(
                    status=RunStatus.SKIPPED, due=self._due, reason=reason, run=self._run
                )))  # fmt: skip
            return holder
        self._change(self._begun)
        return ""

    def leave(self, record: RunRecord) -> None:
        """Note how the run ended, and let the next one begin; a schedule that was removed meanwhile stays removed."""
        self._change(lambda one: self._ended(one, record))
        self._lock.release(self._run)

    def _begun(self, schedule: Schedule) -> Schedule:
        if self._own(schedule) is not None:
            return schedule
        now = text_of(self._records.now(), "microseconds")
        run = ScheduledRun(status=RunStatus.RUNNING, due=self._due, started=now, run=self._run)
        return with_entry(with_gap(lost(schedule), self._due), run)

    def _ended(self, schedule: Schedule, record: RunRecord) -> Schedule:
        own = self._own(schedule)
        if own is None:
            return schedule
        end = ended(own, 1 if record.exit_code is None else record.exit_code, text_of(self._records.now()))
        return with_end(schedule, own.started, replace(end, reason=record.error or end.reason))

    def _own(self, schedule: Schedule) -> ScheduledRun | None:
        return next((one for one in schedule.history if one.run == self._run), None)

    def _change(self, change: Callable[[Schedule], Schedule]) -> None:
        with suppress(NotFound):
            self._records.change(self._model, change)


def with_gap(schedule: Schedule, due: str) -> Schedule:
    """The schedule with an entry about the moments before `due` at which no training began. Pure."""
    if not due or due <= schedule.seen:
        return schedule
    cron = Cron.parse(schedule.cron)
    moments: list[datetime] = []
    at = cron.next(moment_of(schedule.seen))
    while text_of(at) < due and len(moments) < _COUNTED:
        moments.append(at)
        at = cron.next(at)
    if not moments:
        return schedule
    before = schedule.history[-1] if schedule.history else None
    ran = before is not None and before.ended >= text_of(moments[0])
    status, reason = (
        (RunStatus.SKIPPED, "the training before it still ran") if ran
        else (RunStatus.MISSED, "the cluster began none")
    )  # fmt: skip
    return with_entry(
        schedule, ScheduledRun(status=status, due=text_of(moments[-1]), count=len(moments), reason=reason)
    )
