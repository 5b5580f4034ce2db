"""Schedules: what is due, what is remembered, and the store over a real registry."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import ManualClock
from rdv.cron import Cron
from rdv.errors import ConfigError, LostRace, NotFound, UsageError
from rdv.pipelines.schedules.records import (
    HISTORY,
    LATE_S,
    RunStatus,
    Schedule,
    ScheduledRun,
    Schedules,
    due,
    ended,
    moment_of,
    text_of,
    with_end,
    with_entry,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
MODEL = "churn/lightgbm"
moments = st.integers(0, 3 * 86400).map(lambda seconds: START + timedelta(seconds=seconds))
crons = st.sampled_from(["* * * * *", "*/7 * * * *", "0 */3 * * *", "30 4 * * *", "0 0 29 2 *"])


def schedule(cron: str = "0 */3 * * *", seen: datetime = START, **other: object) -> Schedule:
    """A schedule of a model whose moments are dealt with up to `seen`."""
    return Schedule(model=MODEL, cron=cron, created=text_of(START), seen=text_of(seen), **other)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> ManualClock:
    """A clock at the start of the test's time."""
    return ManualClock(wall_s=START.timestamp())


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Schedules:
    """A store over a fresh registry."""
    return Schedules(SqliteRegistry(tmp_path / "registry.sqlite"), tmp_path, clock)


@given(crons, moments, moments)
def test_every_moment_is_run_or_missed_once(cron: str, seen: datetime, now: datetime) -> None:
    """Between the last look and now each moment counts once: the last one, if timely, runs, the others are missed."""
    asked = due(schedule(cron, seen), now)
    expected, at = [], Cron.parse(cron).next(seen)
    while at <= now:
        expected.append(at)
        at = Cron.parse(cron).next(at)
    found = asked.missed + (asked.moment is not None)
    assert found == len(expected)
    if asked.moment is not None:
        assert asked.moment == expected[-1]
        assert now - asked.moment <= timedelta(seconds=LATE_S)
    elif expected:
        assert asked.last_missed == expected[-1]
        assert now - expected[-1] > timedelta(seconds=LATE_S)


@given(crons, moments, moments)
def test_what_is_dealt_with_is_not_due_again(cron: str, seen: datetime, now: datetime) -> None:
    """After what is due has been noted nothing is due at that time."""
    one = schedule(cron, seen)
    asked = due(one, now)
    for moment, status in ((asked.last_missed, RunStatus.MISSED), (asked.moment, RunStatus.RUNNING)):
        if moment is not None:
            one = with_entry(one, ScheduledRun(status=status, due=text_of(moment), started="x"))
    assert due(one, now) == due(replace(one, paused=True), now)


def test_a_very_long_absence_is_still_cheap() -> None:
    """After years without a runner the last moment is found and at least ten thousand are counted as missed."""
    asked = due(schedule("* * * * *"), START + timedelta(days=2000))
    assert asked.moment == START + timedelta(days=2000)
    assert asked.missed >= 10_000


def test_a_paused_schedule_is_never_due() -> None:
    """Paused means that nothing is due and nothing is upcoming."""
    one = schedule(paused=True)
    assert due(one, START + timedelta(days=1)).moment is None
    assert due(one, START + timedelta(days=1)).missed == 0
    assert one.upcoming(START) == []


def test_next_runs() -> None:
    """A schedule tells its next moments."""
    assert [text_of(at) for at in schedule().upcoming(START, 2)] == ["2026-03-01T03:00:00Z", "2026-03-01T06:00:00Z"]


@given(st.lists(st.sampled_from(RunStatus), max_size=3 * HISTORY))
def test_history_is_bounded(kinds: list[RunStatus]) -> None:
    """However much happens a history keeps its last entries, and neighbours that did not run are one entry."""
    one = schedule("* * * * *")
    for at, kind in enumerate(kinds, 1):
        one = with_entry(one, ScheduledRun(status=kind, due=text_of(START + timedelta(minutes=at))))
    assert len(one.history) <= HISTORY
    quiet = (RunStatus.SKIPPED, RunStatus.MISSED)
    assert not any(a.status is b.status in quiet for a, b in zip(one.history, one.history[1:], strict=False))
    assert moment_of(one.seen) == START + timedelta(minutes=len(kinds))
    if len(one.history) < HISTORY:
        assert sum(run.count for run in one.history) == len(kinds)


@pytest.mark.parametrize(
    ("code", "status", "exit_code", "reason"),
    [
        (0, RunStatus.SUCCEEDED, 0, ""),
        (7, RunStatus.FAILED, 7, "exit code 7"),
        (-15, RunStatus.FAILED, None, "killed by SIGTERM"),
    ],
)
def test_ends(code: int, status: RunStatus, exit_code: int | None, reason: str) -> None:
    """The end of a training is told by its command's exit code or signal, in its own entry."""
    run = ScheduledRun(status=RunStatus.RUNNING, started="2026-03-01T00:00:00Z")
    one = with_end(with_entry(schedule(), run), run.started, ended(run, code, "2026-03-01T00:01:00Z"))
    (entry,) = one.history
    assert (entry.status, entry.exit_code, entry.reason) == (status, exit_code, reason)
    assert one.running() is None


def test_a_schedule_is_made_changed_and_removed(store: Schedules, clock: ManualClock) -> None:
    """put makes a schedule, put again changes it from now on and keeps its history, remove forgets it."""
    store.put(MODEL, "0 */3 * * *", ("-P", "num_leaves=31,63"))
    store.note(MODEL, ScheduledRun(status=RunStatus.SKIPPED, due="2026-03-01T03:00:00Z"))
    clock.advance(7 * 3600)
    changed = store.put(MODEL, "@daily")
    assert (changed.cron, changed.arguments, len(changed.history)) == ("@daily", (), 1)
    assert due(changed, store.now()).missed == 0
    assert store.all() == [changed]
    assert store.models() == [MODEL]
    store.remove(MODEL)
    assert store.all() == []
    for call in (store.get, store.pause, store.resume, store.remove):
        with pytest.raises(NotFound, match=f"{MODEL} has no schedule"):
            call(MODEL)


def test_a_pause_is_not_made_up_for(store: Schedules, clock: ManualClock) -> None:
    """What passes during a pause is neither run nor called missed after the resume."""
    store.put(MODEL, "0 */3 * * *")
    assert store.pause(MODEL).paused
    clock.advance(86400)
    assert due(store.resume(MODEL), store.now()).missed == 0
    clock.advance(3 * 3600)
    asked = due(store.get(MODEL), store.now())
    assert (asked.missed, asked.moment is not None) == (0, True)


def test_senseless_schedules_are_refused(store: Schedules) -> None:
    """An expression that means nothing leaves no schedule; a value that is none is named with its key."""
    with pytest.raises(UsageError, match="five"):
        store.put(MODEL, "every day")
    assert store.models() == []
    store._registry.put(f"schedules/{MODEL}", b'{"model":"x"}')
    with pytest.raises(ConfigError, match=f"schedules/{MODEL}"):
        store.get(MODEL)


def test_concurrent_changes_are_all_kept(store: Schedules) -> None:
    """Changes from several threads at once all take effect: none overwrites another."""
    store.put(MODEL, "* * * * *")

    def note(first: int) -> None:
        for at in range(first, 40, 4):
            store.note(MODEL, ScheduledRun(status=RunStatus.FAILED, started=str(at)))

    threads = [threading.Thread(target=note, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(run.started) for run in store.get(MODEL).history) == list(range(40))


def test_a_moment_is_begun_once(store: Schedules, clock: ManualClock) -> None:
    """Of two runners that see the same moment due only one begins it."""
    store.put(MODEL, "* * * * *")
    clock.advance(60)
    at = text_of(store.now())
    assert store.begin(MODEL, at) is not None
    assert store.begin(MODEL, at) is None
    assert len(store.get(MODEL).history) == 1


def test_a_running_entry_without_a_holder_is_lost(store: Schedules) -> None:
    """A training whose process is gone reads as lost; one whose lock is held reads as running."""
    store.put(MODEL, "* * * * *")
    lock = store.lock(MODEL)
    assert lock is not None
    assert store.lock(MODEL) is None
    store.begin(MODEL)
    assert store.get(MODEL).running() is not None
    assert store.settle_losses(MODEL) is False
    lock.close()
    assert store.get(MODEL).running() is None
    assert store.settle_losses(MODEL) is True
    assert [run.status for run in store.get(MODEL).history] == [RunStatus.LOST]
    assert store.settle_losses(MODEL) is False


def test_run_now_waits_for_nobody(store: Schedules, tmp_path: Path) -> None:
    """run_now trains in the foreground and notes the end; while another scheduled training runs it is refused."""
    store.put(MODEL, "0 0 1 1 *")
    run = store.run_now(MODEL, ["sh", "-c", "pwd > where; exit 7"], tmp_path)
    assert (run.status, run.exit_code, run.due) == (RunStatus.FAILED, 7, "")
    assert tmp_path.joinpath("where").read_text().strip() == str(tmp_path)
    assert store.get(MODEL).history == (run,)
    lock = store.lock(MODEL)
    assert lock is not None
    with pytest.raises(LostRace, match="runs already"):
        store.run_now(MODEL, ["true"], tmp_path)
    lock.close()


def test_a_change_wakes_who_waits(store: Schedules) -> None:
    """Every change of a schedule ends the wait for one."""
    store.put(MODEL, "* * * * *")
    for change in (store.pause, store.resume, store.remove):
        serial = store.serial()
        waiter = threading.Thread(target=store.wait_for_change, args=(serial, 60.0))
        waiter.start()
        change(MODEL)
        waiter.join(30)
        assert not waiter.is_alive()
