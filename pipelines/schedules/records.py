"""Schedules: which model is trained when, with which arguments, and what came of it.

A schedule is one value in the registry, `schedules/<model>`, changed by check-and-set; the key `schedules` changes
with each of them, so that a runner can wait for it. Times are UTC, ISO 8601. Moments at which no runner was up are
never made up for: the next one is. A lock that dies with its holder keeps a model's scheduled trainings apart.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rdv.backends.ports import Registry
from rdv.clock import Clock, SystemClock
from rdv.cron import Cron
from rdv.errors import ConfigError, LostRace, NotFound
from rdv.locks import Locks
from rdv.processes import die_with_parent, how_it_ended

KEY = "schedules"
HISTORY = 100
"""Entries that a schedule remembers; older ones are forgotten."""
LATE_S = 60.0
"""How long after its moment a training still starts: the time that a restart of the runner may take."""
_COUNTED = 10_000
_TRIES = 50


class RunStatus(StrEnum):
    """How a scheduled training stands. Allowed moves: running -> succeeded | failed | lost; the rest stay."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    SKIPPED = "skipped"
    MISSED = "missed"


class ScheduledRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of a schedule's history.

    due: the moment it is for, empty for `run now`. exit_code: of the train command. count: how many moments in a row
    were skipped (a training was still running) or missed (no runner was up); due is the last of them then. run: its
    record, where that is known.
    """

    status: RunStatus
    due: str = ""
    started: str = ""
    ended: str = ""
    exit_code: int | None = None
    reason: str = ""
    count: int = 1
    run: str = ""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a model is trained. arguments: of the train command, after the model's name. history: oldest first.

    seen: all moments up to this one are dealt with: run, skipped, missed, or before the schedule was made or resumed.
    """

    model: str
    cron: str
    arguments: tuple[str, ...] = ()
    paused: bool = False
    created: str
    seen: str
    history: tuple[ScheduledRun, ...] = ()

    def upcoming(self, now: datetime, count: int = 3) -> list[datetime]:
        """The next moments at which it is due; none while it is paused."""
        cron, found = Cron.parse(self.cron), [now]
        for _ in range(0 if self.paused else count):
            found.append(cron.next(found[-1]))
        return found[1:]

    def running(self) -> ScheduledRun | None:
        """The entry of the training that runs, if one does."""
        return next((run for run in reversed(self.history) if run.status is RunStatus.RUNNING), None)


class Due(msgspec.Struct, frozen=True):
    """What a schedule asks for: the moment to train for, and the moments before it that are missed for good."""

    moment: datetime | None = None
    missed: int = 0
    last_missed: datetime | None = None


def due(schedule: Schedule, now: datetime) -> Due:
    """What is due at a moment that has not been dealt with. Pure.

    Only the last moment counts, and only within LATE_S; every earlier one that nobody saw is missed.
    """
    if schedule.paused:
        return Due()
    moments: list[datetime] = []
    cron = Cron.parse(schedule.cron)
    at = cron.next(moment_of(schedule.seen))
    while at <= now and len(moments) < _COUNTED:
        moments.append(at)
        at = cron.next(at)
    if at <= now:  # too many to count: what matters is the last one
        moments.append(_last_until(cron, now))
    timely = moments.pop() if moments and now - moments[-1] <= timedelta(seconds=LATE_S) else None
    return Due(timely, len(moments), moments[-1] if moments else None)


def with_entry(schedule: Schedule, run: ScheduledRun) -> Schedule:
    """The schedule with one more entry; a moment skipped or missed right after others of its kind counts with them.

    Unchanged when the entry's moment has been dealt with.
    """
    if run.due and run.due <= schedule.seen:
        return schedule
    history = list(schedule.history)
    last = history[-1] if history else None
    if last and last.status is run.status and run.status in (RunStatus.SKIPPED, RunStatus.MISSED):
        history[-1] = replace(run, count=last.count + run.count)
    else:
        history.append(run)
    seen = max(schedule.seen, run.due) if run.due else schedule.seen
    return replace(schedule, history=tuple(history[-HISTORY:]), seen=seen)


def with_end(schedule: Schedule, started: str, end: ScheduledRun) -> Schedule:
    """The schedule with the running entry that began at `started` replaced by its end, where it is still known."""
    history = tuple(
        end if run.status is RunStatus.RUNNING and run.started == started else run for run in schedule.history
    )
    return replace(schedule, history=history)


def lost(schedule: Schedule) -> Schedule:
    """The schedule with its running entries lost."""
    history = tuple(
        replace(run, status=RunStatus.LOST, reason="its runner was killed") if run.status is RunStatus.RUNNING else run
        for run in schedule.history
    )
    return replace(schedule, history=history)


def ended(run: ScheduledRun, code: int, at: str) -> ScheduledRun:
    """A running entry after its command ended with this code, negative for a signal."""
    if code == 0:
        return replace(run, status=RunStatus.SUCCEEDED, exit_code=0, ended=at)
    exit_code = code if code > 0 else None
    return replace(run, status=RunStatus.FAILED, exit_code=exit_code, ended=at, reason=how_it_ended(code))


class ScheduleRecords:
    """The schedules that a registry holds."""

    def __init__(self, registry: Registry, clock: Clock | None = None) -> None:
        self._registry = registry
        self._clock: Clock = clock or SystemClock()

    def now(self) -> datetime:
        """The clock's time, UTC."""
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def put(self, model: str, cron: str, arguments: Sequence[str] = ()) -> Schedule:
        """Make a model's schedule, or change the one it has: from now on, its history kept. UsageError for no cron."""
        text, now = Cron.parse(cron).text, text_of(self.now())
        old = self.read(model)
        if old is not None:
            return self.change(
                model, lambda one: replace(one, cron=text, arguments=tuple(arguments), paused=False, seen=now)
            )
        made = Schedule(model=model, cron=text, arguments=tuple(arguments), created=now, seen=now)
        self._registry.put(_key(model), msgspec.json.encode(made), expect=0)
        self._announce()
        return made

    def get(self, model: str) -> Schedule:
        """A model's schedule, a training that is gone shown as lost; NotFound when it has none."""
        found = self.read(model)
        if found is None:
            raise NotFound(f"{model} has no schedule", f'make one: rdv schedule {model} --cron "0 */3 * * *"')
        return self._with_losses(found)

    def models(self) -> list[str]:
        """The models that have a schedule, sorted."""
        return [key.removeprefix(f"{KEY}/") for key in self._registry.list(f"{KEY}/")]

    def all(self) -> list[Schedule]:
        """All schedules by model, as `get` gives them."""
        return [self.get(model) for model in self.models()]

    def pause(self, model: str) -> Schedule:
        """Train no more until resumed; what runs goes on."""
        return self.change(model, lambda one: replace(one, paused=True))

    def resume(self, model: str) -> Schedule:
        """Train again from the next moment on; those that passed meanwhile are not made up for, nor called missed."""
        now = text_of(self.now())
        return self.change(model, lambda one: replace(one, paused=False, seen=now) if one.paused else one)

    def remove(self, model: str) -> None:
        """Forget a schedule and its history; what runs goes on. NotFound when there is none."""
        self.get(model)
        self._registry.delete(_key(model))
        self._announce()

    def serial(self) -> int:
        """A number that changes with every change of a schedule."""
        entry = self._registry.get(KEY)
        return entry.index if entry else 0

    def wait_for_change(self, serial: int, wait_s: float) -> None:
        """Block until `serial()` is another, at most wait_s."""
        self._registry.watch(KEY, serial, wait_s)

    def read(self, model: str) -> Schedule | None:
        """A model's schedule as it is written, None when it has none."""
        entry = self._registry.get(_key(model))
        return _decode(_key(model), entry.value) if entry else None

    def change(self, model: str, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Change a schedule that is there, else NotFound; the new one."""
        for _ in range(_TRIES):
            entry = self._registry.get(_key(model))
            if entry is None:
                raise NotFound(f"{model} has no schedule", f'make one: rdv schedule {model} --cron "0 */3 * * *"')
            new = change(_decode(_key(model), entry.value))
            try:
                self._registry.put(_key(model), msgspec.json.encode(new), expect=entry.index)
            except LostRace:
                continue
            self._announce()
            return new
        raise LostRace(f"the schedule of {model} is changed by somebody else all the time", "try again")

    def _with_losses(self, schedule: Schedule) -> Schedule:
        """The schedule with what is known of its trainings that could not say themselves how they ended."""
        return schedule

    def _announce(self) -> None:
        self._registry.put(KEY, text_of(self.now(), "microseconds").encode())


class Schedules(ScheduleRecords):
    """The schedules of a project that `rdv up` carries out, kept in its registry; the locks are in its state folder."""

    def __init__(self, registry: Registry, state: Path, clock: Clock | None = None) -> None:
        super().__init__(registry, clock)
        self._locks = state / "locks" / "schedules"

    def run_now(self, model: str, command: Sequence[str], folder: Path) -> ScheduledRun:
        """Train now, in the foreground, whatever the schedule says; returns its entry of the history.

        command: argv of the train command, run in `folder`; it ends with this process. LostRace while another
        scheduled training of the model runs.
        """
        self.get(model)
        lock = self.lock(model)
        if lock is None:
            running = self.get(model).running()
            since = f", since {running.started}" if running else ""
            raise LostRace(f"a scheduled training of {model} runs already{since}", "wait for it: rdv runs list")
        with closing(lock):
            run = self.begin(model)
            assert run is not None  # only a moment can be dealt with already
            parent = os.getpid()
            process = subprocess.Popen(
                command, cwd=folder, pass_fds=(lock.fd,), preexec_fn=lambda: die_with_parent(parent)
            )
            try:
                code = process.wait()
            except KeyboardInterrupt:  # the terminal told the training as well
                self.finish(model, run, process.wait())
                raise
            return self.finish(model, run, code)

    def begin(self, model: str, due_at: str = "") -> ScheduledRun | None:
        """Note in the history that a training starts; call it with the model's lock held.

        None, and nothing noted, when another runner has dealt with this moment.
        """
        run = ScheduledRun(status=RunStatus.RUNNING, due=due_at, started=text_of(self.now(), "microseconds"))
        new = self.change(model, lambda one: with_entry(lost(one), run))
        return run if run in new.history else None

    def finish(self, model: str, run: ScheduledRun, code: int) -> ScheduledRun:
        """Note how a training ended; a schedule that was removed meanwhile is left removed."""
        end = ended(run, code, text_of(self.now()))
        if self.read(model) is not None:
            self.change(model, lambda one: with_end(one, run.started, end))
        return end

    def note(self, model: str, run: ScheduledRun) -> None:
        """Add an entry about moments at which no training started."""
        self.change(model, lambda one: with_entry(one, run))

    def lock(self, model: str) -> Locks | None:
        """The model's lock, None when somebody has it; held until it is closed in every process that shares it."""
        lock = Locks(self._locks)
        if lock.take(model):
            return lock
        lock.close()
        return None

    def settle_losses(self, model: str) -> bool:
        """Write down which trainings of a model are lost; whether any was."""
        if self.get(model) == self.read(model):
            return False
        self.change(model, self._with_losses)
        return True

    def _with_losses(self, schedule: Schedule) -> Schedule:
        """The schedule, its running entries lost when nobody holds the model's lock any more."""
        if schedule.running() is None:
            return schedule
        with closing(Locks(self._locks)) as look:
            if look.held_elsewhere(schedule.model):
                return schedule
        return lost(self.read(schedule.model) or schedule)  # an end is written down before the lock is let go


def text_of(moment: datetime, precision: str = "seconds") -> str:
    """A UTC time as ISO 8601, of one length, so that text sorts as time."""
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def moment_of(text: str) -> datetime:
    """The time in a text that `text_of` made."""
    return datetime.fromisoformat(text)


def _last_until(cron: Cron, now: datetime) -> datetime:
    """The last moment not after `now`, found by doubling the look back."""
    back = timedelta(minutes=1)
    while (at := cron.next(now - back)) > now:
        back *= 2
    while (later := cron.next(at)) <= now:
        at = later
    return at


def _key(model: str) -> str:
    return f"{KEY}/{model}"


def _decode(key: str, value: bytes) -> Schedule:
    try:
        schedule = msgspec.json.decode(value, type=Schedule)
        Cron.parse(schedule.cron)
        moment_of(schedule.seen)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"registry key {key} does not hold a schedule: {error}", "see `rdv doctor`") from None
    return schedule
