"""Runs that everybody of an environment sees: kept in bounds, alive or silent, ended from afar, joined and left."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import ManualClock
from rdv.pipelines.runs import shared as shared_runs
from rdv.pipelines.runs.joins import Joins
from rdv.pipelines.runs.records import RunRecord
from rdv.pipelines.runs.shared import KEPT, SILENT_S, Pulse, SharedRuns
from rdv.pipelines.schedules.lock import ScheduleLock
from rdv.pipelines.schedules.moments import due_of_job, is_of_clock, run_of_job

HANG_S = 60.0


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock(wall_s=1_700_000_000.0)


@pytest.fixture
def shared(tmp_path: Path, clock: ManualClock) -> SharedRuns:
    """Records in a registry that other processes might share."""
    return SharedRuns(SqliteRegistry(tmp_path / "registry.sqlite"), clock)


def record(run: str = "r1", **other: object) -> RunRecord:
    """A run's record."""
    return RunRecord(run=run, model="m", **other)  # type: ignore[arg-type]


def test_a_wish_for_the_end_outlives_the_runs_own_writes(shared: SharedRuns) -> None:
    """What somebody else wrote into a record, a wish for its end, is kept when the run writes its record anew."""
    shared.put(record())
    shared.change("r1", lambda one: replace(one, cancel="anna"))
    shared.put(record(points=3))
    found = shared.get("r1")[0]
    assert found is not None
    assert (found.cancel, found.points) == ("anna", 3)


def test_records_are_bounded(shared: SharedRuns) -> None:
    """Texts are cut, of a model the newest ended runs are kept, and none that goes on is forgotten."""
    shared.put(record("r0"))
    for at in range(KEPT + 3):
        shared.put(record(f"s{at:04}", state="done", error="x" * 10_000, reasons=("y" * 10_000,) * 100))
    shared.put(replace(record("t"), model="other"))
    shared.forget_old("m")
    runs = [one.run for one in shared.all()]
    assert runs == ["t", *(f"s{at:04}" for at in reversed(range(3, KEPT + 3))), "r0"]
    entry = shared.registry.get("runs/s0100")
    assert entry is not None
    assert len(entry.value) < 512 * 1024 / 4


def test_a_silent_run_is_not_alive(shared: SharedRuns, clock: ManualClock) -> None:
    """A run that has said nothing for three minutes is silent, an ended one and an unknown one are not alive either."""
    shared.put(record())
    shared.put(record("ended", state="failed"))
    assert [shared.is_alive(run) for run in ("r1", "ended", "never", "../x")] == [True, False, False, False]
    clock.advance(SILENT_S + 1)
    assert not shared.is_alive("r1")
    shared.put(record())
    assert shared.is_alive("r1")


def test_a_pulse_tells_of_a_wish_for_the_end(shared: SharedRuns) -> None:
    """A run learns at once that somebody wants its end, once, and its last word stands."""
    asked, came = threading.Event(), []

    def end(by: str) -> None:
        came.append(by)
        asked.set()

    pulse = Pulse(shared, record(), end)
    shared.change("r1", lambda one: replace(one, cancel="anna"))
    assert asked.wait(HANG_S)
    assert pulse.close(record(state="interrupted"))
    found = shared.get("r1")[0]
    assert found is not None
    assert (found.state, came) == ("interrupted", ["anna"])


def test_a_pulse_brings_a_lost_record_back(shared: SharedRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that its registry has lost is there again with the next beat."""
    monkeypatch.setattr(shared_runs, "BEAT_S", 0.01)
    pulse = Pulse(shared, record(), lambda by: None)
    shared.registry.delete("runs/r1")
    while shared.get("r1")[0] is None:
        shared.wait("r1", 0, HANG_S)
    assert pulse.close(record(state="done"))


def test_a_step_is_left_to_runs_that_live(shared: SharedRuns, clock: ManualClock) -> None:
    """Another run's wish for an artifact counts as long as that run lives, and one's own never does."""
    one, other = Joins(shared, "r1"), Joins(shared, "r2")
    shared.put(record("r1"))
    shared.put(record("r2"))
    other.add("train/m/x")
    assert (one.others("train/m/x"), one.others("train/m/y"), other.others("train/m/x")) == (["r2"], [], [])
    clock.advance(SILENT_S + 1)
    assert one.others("train/m/x") == []
    shared.put(record("r2"))
    other.drop("train/m/x")
    assert one.others("train/m/x") == []


def test_a_schedules_lock_is_held_by_one_living_run(shared: SharedRuns, clock: ManualClock) -> None:
    """One run holds it, may take it again, gives it back, and loses it when it is silent."""
    lock = ScheduleLock(shared.registry, "m", clock)
    shared.put(record("r1"))
    shared.put(record("r2"))
    assert (lock.take("r1"), lock.take("r1"), lock.take("r2"), lock.holder()) == ("", "", "r1", "r1")
    lock.release("r2")
    assert lock.take("r2") == "r1"
    lock.release("r1")
    assert (lock.holder(), lock.take("r2")) == ("", "")
    clock.advance(SILENT_S + 1)
    assert (lock.holder(), lock.take("r1")) == ("", "")


def test_a_moments_job_names_its_run() -> None:
    """The run of a job that a clock began is the same at each of its starts, and sorts by the moment it is for."""
    job = "rdv-schedule-m-1234/periodic-1700000000"
    assert run_of_job(job).startswith("20231114-221320-")
    assert run_of_job(job) == run_of_job(job) != run_of_job("other/periodic-1700000000")
    assert due_of_job(job) == "2023-11-14T22:13:20Z"
    assert [is_of_clock(one) for one in (job, "rdv-pipeline/dispatch-1700000000-ab", "x")] == [True, False, False]
