"""What every keeper of schedules promises, the embedded one first: `rdv up`'s, and a cluster's own clock."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.errors import LostRace, NotFound, UsageError
from rdv.pipelines.schedules.records import RunStatus, Schedules, moment_of

HANG_S = 120.0
MODEL = "visit/m"
ARGUMENTS = ("-P", "offset=1.0")
# holds while it is told to, and fails when it is told to
TRAINING = """
import sys, time
from pathlib import Path
here = Path(sys.argv[1])
with (here / "trained").open("a") as file:
    file.write("1.0\\n")
while (here / "hold").exists() and not (here / "go").exists():
    time.sleep(0.01)
sys.exit(7 if (here / "refuse").exists() else 0)
"""


class Embedded:
    """The schedules of a project that `rdv up` carries out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.schedules: Any = Schedules(SqliteRegistry(folder / "registry.sqlite"), folder)

    def run_now(self) -> Any:
        """Train now; the entry of the history."""
        return self.schedules.run_now(MODEL, [sys.executable, "-c", TRAINING, str(self.folder)], self.folder)

    def refuse(self) -> None:
        """Have trainings end with a gate's refusal."""
        self.mark("refuse")

    def mark(self, name: str) -> None:
        """Tell trainings something."""
        (self.folder / name).touch()

    def trained(self) -> int:
        """How many trainings have begun."""
        file = self.folder / "trained"
        return len(file.read_text().split()) if file.exists() else 0


class OnNomad:
    """The schedules of an environment whose cluster's clock begins them."""

    def __init__(self, town: Any) -> None:
        from rdv.cli.scheduling import schedules

        self._town = town
        self.schedules: Any = schedules(town.project())
        self.mark = town.mark

    def run_now(self) -> Any:
        """Train now; the entry of the history."""
        from rdv.pipelines.runs.every import Runs

        run = self.schedules.begin_now(MODEL).run
        Runs(self._town.project()).wait(run, HANG_S)
        return self.schedules.entry(MODEL, run)

    def refuse(self) -> None:
        """Have trainings end with a gate's refusal."""
        settings = (self._town.folder / "rdv.toml").read_text()
        self.mark("rdv.toml", settings.replace('metric = "rmse"', 'metric = "rmse"\nfloor = 0.0001'))

    def trained(self) -> int:
        """How many trainings have begun."""
        return len(self._town.trained())


@pytest.fixture(scope="session", params=["embedded", pytest.param("nomad", marks=pytest.mark.live)])
def servers(request: pytest.FixtureRequest) -> Any:
    """The servers that the keeper needs, started before any test begins; none for the embedded one."""
    if request.param == "embedded":
        return None
    return [request.getfixturevalue(name) for name in ("nomad_servers", "consul_server", "s3_server", "towns")]


@pytest.fixture
def bench(servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A keeper of schedules, and ways to watch and steer the trainings that it begins."""
    if servers is None:
        return Embedded(tmp_path)
    *running, towns = servers
    return OnNomad(towns.make_town(*running, tmp_path, monkeypatch))


def until(true: Callable[[], bool]) -> None:
    """Wait for the outside world."""
    end = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_schedule_is_made_changed_and_forgotten(bench: Any) -> None:
    """A schedule is what was put last, tells its next moments, and is gone when it was removed."""
    kept = bench.schedules
    with pytest.raises(NotFound):
        kept.get(MODEL)
    kept.put(MODEL, "0 */3 * * *", ARGUMENTS)
    made = kept.put(MODEL, "30 4 * * mon-fri", ARGUMENTS)
    assert kept.get(MODEL) == made
    assert [one.cron for one in kept.all()] == ["30 4 * * mon-fri"]
    upcoming = made.upcoming(moment_of("2026-03-07T00:00:00Z"), 2)
    assert [at.isoformat() for at in upcoming] == ["2026-03-09T04:30:00+00:00", "2026-03-10T04:30:00+00:00"]
    kept.remove(MODEL)
    assert kept.all() == []
    for call in (kept.get, kept.remove, kept.pause, kept.resume):
        with pytest.raises(NotFound):
            call(MODEL)


def test_a_paused_schedule_has_no_next_moment(bench: Any) -> None:
    """Paused it has none, resumed it has its own again, and pausing or resuming twice changes nothing."""
    kept = bench.schedules
    kept.put(MODEL, "0 0 1 1 *", ARGUMENTS)
    for _ in range(2):
        assert kept.pause(MODEL).paused
    assert kept.get(MODEL).upcoming(kept.now()) == []
    for _ in range(2):
        assert not kept.resume(MODEL).paused
    assert len(kept.get(MODEL).upcoming(kept.now())) == 3


def test_nonsense_changes_nothing(bench: Any) -> None:
    """An expression that is none is refused, and the schedule stays as it was."""
    made = bench.schedules.put(MODEL, "0 0 1 1 *", ARGUMENTS)
    for cron in ("", "* * * *", "61 * * * *", "0 0 31 2 *"):
        with pytest.raises(UsageError):
            bench.schedules.put(MODEL, cron, ARGUMENTS)
    assert bench.schedules.get(MODEL) == made


def test_a_training_now_does_not_overlap(bench: Any) -> None:
    """A paused schedule's training can be begun by hand, a second one beside it is refused, and its end is noted."""
    kept = bench.schedules
    kept.put(MODEL, "0 0 1 1 *", ARGUMENTS)
    kept.pause(MODEL)
    bench.mark("hold")
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(bench.run_now()))
    thread.start()
    until(lambda: bench.trained() == 1)
    assert [one.status for one in kept.get(MODEL).history] == [RunStatus.RUNNING]
    with pytest.raises(LostRace, match="runs already"):
        bench.run_now()
    bench.mark("go")
    thread.join(HANG_S)
    assert [(one.status, one.exit_code, one.due) for one in ended] == [(RunStatus.SUCCEEDED, 0, "")]
    assert kept.get(MODEL).history == tuple(ended)
    bench.refuse()
    again = bench.run_now()
    assert (again.status, again.exit_code) == (RunStatus.FAILED, 7)
    assert bench.trained() >= 1


def test_a_training_outlives_its_schedule(bench: Any) -> None:
    """What runs goes on when its schedule is removed, and its end brings the schedule back in no way."""
    bench.schedules.put(MODEL, "0 0 1 1 *", ARGUMENTS)
    bench.mark("hold")
    errors: list[Exception] = []

    def run() -> None:
        try:
            bench.run_now()
        except NotFound as error:  # the end of a run has no entry to be told any more
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: bench.trained() == 1)
    bench.schedules.remove(MODEL)
    bench.mark("go")
    thread.join(HANG_S)
    assert not thread.is_alive()
    assert bench.schedules.all() == []
