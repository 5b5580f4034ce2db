"""The schedule runner with real processes and a clock that the test moves."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import ManualClock
from rdv.errors import LostRace
from rdv.pipelines.schedules.records import RunStatus, Schedule, Schedules
from rdv.pipelines.schedules.runner import ScheduleRunner

MODEL = "churn/lightgbm"
HANG_S = 180.0
MIDNIGHT = 1_772_323_200.0
TRAINING = """
import os, sys, time
with open("started", "a") as file: file.write(f"{os.getpid()} {' '.join(sys.argv[1:])}\\n")
while not os.path.exists("gate"): time.sleep(0.005)
sys.exit(int(open("gate").read() or 0))
"""


class Bench:
    """A project folder with a store, a clock at midnight, and a runner whose trainings wait for a gate."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, ManualClock(wall_s=MIDNIGHT)
        self.store = Schedules(SqliteRegistry(folder / "registry.sqlite"), folder, self.clock)
        self.said: list[str] = []
        self.command: Callable[[Schedule], list[str]] = lambda one: [sys.executable, "-c", TRAINING, *one.arguments]

    def runner(self) -> ScheduleRunner:
        """Another runner on the same project."""
        return ScheduleRunner(self.store, self.command, self.folder, self.said.append)

    def advance(self, seconds: float) -> None:
        """Move the clock and wake the runner."""
        self.clock.advance(seconds)
        self.wake()

    def wake(self) -> None:
        """Have the runner look again."""
        self.store.resume(MODEL)

    def gate(self, code: int = 0) -> None:
        """Let trainings end with an exit code."""
        self.folder.joinpath("gate.new").write_text(str(code))
        self.folder.joinpath("gate.new").rename(self.folder / "gate")

    def started(self) -> list[str]:
        """What the trainings said when they started: process id and arguments."""
        with suppress(FileNotFoundError):
            return self.folder.joinpath("started").read_text().splitlines()
        return []

    def statuses(self) -> list[RunStatus]:
        """The history's statuses, oldest first."""
        return [run.status for run in self.store.get(MODEL).history]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something that only the outside world can tell is so."""
        async with asyncio.timeout(HANG_S):
            while not true():
                await asyncio.sleep(0.005)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench with a schedule for every hour."""
    one = Bench(tmp_path)
    one.store.put(MODEL, "@hourly", ("-P", "num_leaves=31"))
    return one


def run(bench: Bench, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario beside a runner that is cancelled in the end."""

    async def main() -> None:
        runner = asyncio.create_task(bench.runner().run())
        try:
            await scenario()
        finally:
            runner.cancel()
            with suppress(asyncio.CancelledError):
                await runner
            bench.store.put(MODEL, "@hourly")  # wakes the thread that still waits for a change

    asyncio.run(main())


def test_a_training_starts_at_its_moment(bench: Bench) -> None:
    """Nothing starts before the moment; at it the command runs once, with the arguments, and its end is remembered."""

    async def scenario() -> None:
        bench.advance(3599)
        bench.gate()
        bench.advance(1)
        await bench.until(lambda: bench.statuses() == [RunStatus.SUCCEEDED])
        assert [line.split(" ", 1)[1] for line in bench.started()] == ["-P num_leaves=31"]
        (entry,) = bench.store.get(MODEL).history
        assert (entry.due, entry.exit_code) == ("2026-03-01T01:00:00Z", 0)
        bench.advance(3600)
        await bench.until(lambda: bench.statuses() == [RunStatus.SUCCEEDED] * 2)

    run(bench, scenario)


def test_a_failure_is_remembered_and_the_next_one_runs(bench: Bench) -> None:
    """A training that fails leaves its exit code, and the next moment trains again."""

    async def scenario() -> None:
        bench.gate(7)
        bench.advance(3600)
        await bench.until(lambda: bench.statuses() == [RunStatus.FAILED])
        assert bench.store.get(MODEL).history[0].exit_code == 7
        bench.gate(0)
        bench.advance(3600)
        await bench.until(lambda: bench.statuses() == [RunStatus.FAILED, RunStatus.SUCCEEDED])

    run(bench, scenario)


def test_trainings_do_not_overlap(bench: Bench) -> None:
    """While a training runs its next moments are skipped, and `run now` is refused; then training goes on."""

    async def scenario() -> None:
        bench.advance(3600)
        await bench.until(lambda: len(bench.started()) == 1)
        with pytest.raises(LostRace, match="runs already"):
            bench.store.run_now(MODEL, ["true"], bench.folder)
        for _ in range(2):
            bench.advance(3600)
            await bench.until(lambda: bench.store.get(MODEL).seen == bench.store.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        assert bench.statuses() == [RunStatus.RUNNING, RunStatus.SKIPPED]
        assert bench.store.get(MODEL).history[1].count == 2
        bench.gate()
        await bench.until(lambda: bench.statuses()[0] is RunStatus.SUCCEEDED)
        bench.advance(3600)
        await bench.until(lambda: bench.statuses()[-1] is RunStatus.SUCCEEDED and len(bench.started()) == 2)

    run(bench, scenario)


def test_run_now_keeps_the_schedule_off(bench: Bench) -> None:
    """While `run now` trains, a moment of the schedule is skipped."""

    async def scenario() -> None:
        command = [sys.executable, "-c", TRAINING]
        now = asyncio.create_task(asyncio.to_thread(bench.store.run_now, MODEL, command, bench.folder))
        await bench.until(lambda: len(bench.started()) == 1)
        bench.advance(3600)
        await bench.until(lambda: bench.statuses() == [RunStatus.RUNNING, RunStatus.SKIPPED])
        bench.gate()
        assert (await now).status is RunStatus.SUCCEEDED

    run(bench, scenario)


def test_two_runners_train_once(bench: Bench) -> None:
    """A second runner on the same project starts nothing that the first one starts."""

    async def scenario() -> None:
        second = asyncio.create_task(bench.runner().run())
        bench.gate()
        for count in (1, 2, 3):
            bench.advance(3600)
            await bench.until(lambda count=count: bench.statuses().count(RunStatus.SUCCEEDED) == count)
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        assert len(bench.started()) == 3

    run(bench, scenario)


def test_missed_moments_are_told_not_made_up(bench: Bench) -> None:
    """Moments at which no runner was up are one entry of the history and one line, and start nothing."""
    bench.clock.advance(5 * 3600 + 600)

    async def scenario() -> None:
        await bench.until(lambda: bench.statuses() == [RunStatus.MISSED])
        (entry,) = bench.store.get(MODEL).history
        assert (entry.count, entry.due) == (5, "2026-03-01T05:00:00Z")
        assert ["were missed" in line for line in bench.said] == [True]
        bench.gate()
        bench.advance(3000)
        await bench.until(lambda: bench.statuses() == [RunStatus.MISSED, RunStatus.SUCCEEDED])

    run(bench, scenario)


def test_schedules_come_and_go(bench: Bench) -> None:
    """A pause, and a schedule that is added while the runner waits, take effect without a restart."""

    async def scenario() -> None:
        bench.gate()
        bench.store.pause(MODEL)
        bench.store.put("churn/catboost", "@hourly")
        bench.clock.advance(3600)
        bench.store.put("churn/other", "@daily")
        await bench.until(lambda: bool(bench.store.get("churn/catboost").history))
        assert bench.statuses() == []
        bench.store.remove("churn/catboost")
        bench.store.resume(MODEL)
        bench.advance(3600)
        await bench.until(lambda: bench.statuses() == [RunStatus.SUCCEEDED])

    run(bench, scenario)


def test_a_command_that_cannot_start_has_failed(bench: Bench) -> None:
    """A train command that does not exist is a failed training, and its lock is free again."""
    bench.command = lambda one: ["/nonexistent/rdv"]

    async def scenario() -> None:
        bench.advance(3600)
        await bench.until(lambda: bench.statuses() == [RunStatus.FAILED])
        assert bench.store.get(MODEL).history[0].exit_code == 127
        bench.advance(3600)
        await bench.until(lambda: bench.statuses() == [RunStatus.FAILED] * 2)

    run(bench, scenario)


def test_a_broken_schedule_does_not_stop_the_others(bench: Bench) -> None:
    """A registry value that is no schedule is left out, once loudly, and the other models are trained."""
    bench.store._registry.put("schedules/broken", b"{}")

    async def scenario() -> None:
        bench.gate()
        bench.advance(3600)
        await bench.until(lambda: bench.statuses() == [RunStatus.SUCCEEDED])
        assert len([line for line in bench.said if line.startswith("broken")]) == 1

    run(bench, scenario)


def test_a_stop_ends_the_training(bench: Bench) -> None:
    """When the runner stops, its training is ended and remembered as such."""

    async def scenario() -> None:
        bench.advance(3600)
        await bench.until(lambda: len(bench.started()) == 1)

    run(bench, scenario)
    (entry,) = bench.store.get(MODEL).history
    assert (entry.status, entry.reason) == (RunStatus.FAILED, "killed by SIGTERM")


RUNNER = """
import sys
from pathlib import Path
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import ManualClock
from rdv.pipelines.schedules.runner import run_schedules
from rdv.pipelines.schedules.records import Schedules
folder = Path(sys.argv[1])
store = Schedules(SqliteRegistry(folder / "registry.sqlite"), folder, ManualClock(wall_s=float(sys.argv[2])))
def say(text): print(text, flush=True)
print(run_schedules(store, lambda one: [sys.executable, "-c", sys.argv[3]], folder, say))
"""


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_runner_loses_its_training(bench: Bench, number: int) -> None:
    """kill -9 of the runner ends its training, which reads as lost from then on; SIGTERM ends it and says so.

    A new runner writes the loss down and trains at the next moment.
    """
    command = [sys.executable, "-c", RUNNER, str(bench.folder), str(MIDNIGHT + 3600), TRAINING]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as runner:
        until = time.monotonic() + HANG_S
        while not bench.started() and time.monotonic() < until:
            time.sleep(0.005)
        pid = int(bench.started()[0].split()[0])
        assert bench.statuses() == [RunStatus.RUNNING]
        runner.send_signal(number)
        assert runner.wait(HANG_S) == (-number if number == signal.SIGKILL else 0)
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.005)
    expected = RunStatus.LOST if number == signal.SIGKILL else RunStatus.FAILED
    assert bench.statuses() == [expected]
    bench.clock.advance(2 * 3600)
    bench.gate()

    async def scenario() -> None:
        await bench.until(lambda: bench.statuses() == [expected, RunStatus.SUCCEEDED])
        assert ["was lost" in line for line in bench.said if "lost" in line] == [True] * (number == signal.SIGKILL)

    run(bench, scenario)


def test_a_stopped_runner_goes_on(bench: Bench) -> None:
    """A runner that is stopped (SIGSTOP) while its training ends notes the end when it is continued."""
    command = [sys.executable, "-c", RUNNER, str(bench.folder), str(MIDNIGHT + 3600), TRAINING]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as runner:
        until = time.monotonic() + HANG_S
        while not bench.started() and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(runner.pid, signal.SIGSTOP)
        bench.gate()
        assert bench.statuses() == [RunStatus.RUNNING]
        os.kill(runner.pid, signal.SIGCONT)
        while bench.statuses() == [RunStatus.RUNNING] and time.monotonic() < until:
            time.sleep(0.005)
        assert bench.statuses() == [RunStatus.SUCCEEDED]
        runner.terminate()
