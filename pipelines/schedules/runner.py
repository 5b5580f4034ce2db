"""What `rdv up` runs beside serving: each schedule's train command at each of its moments, one at a time a model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rdv.errors import RdvError, Transient
from rdv.locks import Locks
from rdv.pipelines.schedules.records import Due, RunStatus, Schedule, ScheduledRun, Schedules, due, text_of
from rdv.processes import ProcessEvent, ProcessSpec, ProcessSupervisor
from rdv.supervise import TaskOwner
from rdv.threads import in_daemon_thread

_log = logging.getLogger("rdv.schedules")
_LONGEST_WAIT_S = 30.0
"""How far the wall clock may be set without the runner noticing."""
_RETRY_S = 5.0
_STOP_S = 4.0
"""From SIGTERM to SIGKILL of a training when the runner stops; its steps end with it."""

_NOT_FOUND = 127
"""What a shell says of a command that cannot be started."""


@dataclass(slots=True)
class _Training:
    run: ScheduledRun
    lock: Locks


def log_line(text: str) -> None:
    """Write what the runner reports to the log."""
    _log.info("%s", text)


class ScheduleRunner:
    """Starts trainings when they are due. One runner a project; a second one finds the locks taken and skips.

    command: the argv of the train command for a schedule; it runs in `folder`, ends with this process, and is the
    only thing that trains: the runner itself does nothing heavy.
    """

    def __init__(
        self,
        schedules: Schedules,
        command: Callable[[Schedule], Sequence[str]],
        folder: Path,
        report: Callable[[str], None] = log_line,
    ) -> None:
        self._schedules, self._command, self._folder, self._report = schedules, command, folder, report
        self._trainings: dict[str, _Training] = {}
        self._ended: list[tuple[str, _Training, int]] = []
        self._complaints: set[str] = set()
        self._children = ProcessSupervisor(self._noticed)

    async def run(self) -> None:
        """Run until cancelled; then end the trainings, and return when they are gone and written down.

        A registry that cannot be reached is tried again; trainings that run go on meanwhile.
        """
        try:
            while True:
                await self._wait()
        finally:
            await self._children.stop()
            self._write_ends()

    def tick(self) -> float:
        """Start what is due now; seconds until something is due again, at most 30."""
        self._write_ends()
        waits_s = [_LONGEST_WAIT_S]
        for model in self._schedules.models():
            try:
                waits_s.append(self._look_at(model))
            except RdvError as error:
                if isinstance(error, Transient):
                    raise
                self._complain(f"{model}: its schedule is left out: {error}")
        return min(waits_s)

    def _look_at(self, model: str) -> float:
        """Deal with one schedule; seconds until it is due again."""
        if model not in self._trainings and self._schedules.settle_losses(model):
            self._report(f"{model}: a scheduled training was lost with the process that ran it")
        now, schedule = self._schedules.now(), self._schedules.get(model)
        self._deal_with(schedule, due(schedule, now))
        return min([(at - now) / timedelta(seconds=1) for at in schedule.upcoming(now, 1)], default=_LONGEST_WAIT_S)

    def _complain(self, text: str) -> None:
        if text not in self._complaints:
            self._complaints.add(text)
            self._report(text)

    async def _wait(self) -> None:
        try:
            serial = self._schedules.serial()
            wait_s = self.tick()
            await in_daemon_thread("rdv-schedules", lambda: self._schedules.wait_for_change(serial, wait_s))
        except RdvError as error:
            if not isinstance(error, Transient):
                raise
            self._report(f"schedules cannot be read, trying again in {_RETRY_S:g} s: {error}")
            await asyncio.sleep(_RETRY_S)

    def _deal_with(self, schedule: Schedule, asked: Due) -> None:
        model = schedule.model
        if asked.missed and asked.last_missed is not None:
            reason = "no runner was up; missed trainings are not made up for"
            last = text_of(asked.last_missed)
            entry = ScheduledRun(status=RunStatus.MISSED, due=last, count=asked.missed, reason=reason)
            self._schedules.note(model, entry)
            self._report(f"{model}: {asked.missed} moments up to {last} were missed: {reason}")
        if asked.moment is None:
            return
        at, argv = text_of(asked.moment), tuple(self._command(schedule))
        lock = self._schedules.lock(model)
        if lock is None:
            reason = "the training before it still ran"
            self._schedules.note(model, ScheduledRun(status=RunStatus.SKIPPED, due=at, reason=reason))
            self._report(f"{model}: {at} skipped: {reason}")
            return
        try:
            run = self._schedules.begin(model, at)
        except BaseException:
            lock.close()
            raise
        if run is None:
            return lock.close()
        self._report(f"{model}: training for {at}")
        self._trainings[model] = _Training(run, lock)
        self._children.start(
            ProcessSpec(
                name=model, argv=argv, folder=self._folder, restart=None, stop_s=_STOP_S, pass_fds=(lock.fd,)
            )
        )

    def _noticed(self, event: ProcessEvent) -> None:
        if event.kind not in ("exited", "stopped", "gave_up"):
            return
        training = self._trainings.pop(event.name)
        self._report(f"{event.name}: training for {training.run.due} ended, {event.reason}")
        self._ended.append((event.name, training, event.code if event.code is not None else _NOT_FOUND))
        try:
            self._write_ends()
        except RdvError as error:  # written down at the next tick; until then the lock is held
            self._report(f"{event.name}: its end cannot be written down yet: {error}")

    def _write_ends(self) -> None:
        while self._ended:
            model, training, code = self._ended[0]
            try:
                self._schedules.finish(model, training.run, code)
            except RdvError as error:
                if isinstance(error, Transient):
                    raise
                self._complain(f"{model}: the end of its training cannot be written down: {error}")
            training.lock.close()
            del self._ended[0]


def run_schedules(
    schedules: Schedules, command: Callable[[Schedule], Sequence[str]], folder: Path, report: Callable[[str], None]
) -> str:
    """Run a project's schedules in this process, its main thread, until SIGTERM or SIGINT; the reason of the end."""
    runner = ScheduleRunner(schedules, command, folder, report)
    owner = TaskOwner("schedules", signals=True)
    owner.task("runner", runner.run)
    return asyncio.run(owner.run())
