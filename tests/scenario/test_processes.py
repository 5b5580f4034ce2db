"""The process supervisor with real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rdv.errors import NotFound, UsageError
from rdv.processes import ProcessEvent, ProcessSpec, ProcessSupervisor
from rdv.restarts import RestartPolicy

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
STUBBORN = (
    sys.executable, "-S", "-u", "-c",
    "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', end=''); time.sleep(600)",
)  # fmt: skip
SOON = RestartPolicy(first_s=0.01, ceiling_s=0.02, fast=3)
HANG_S = 30.0


class Seen:
    """Events of a supervisor, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[ProcessEvent] = []
        self.more = asyncio.Event()

    def __call__(self, event: ProcessEvent) -> None:
        self.events.append(event)
        self.more.set()

    def kinds(self) -> list[str]:
        """The kinds of all events so far."""
        return [event.kind for event in self.events]

    async def until(self, kind: str, count: int = 1) -> ProcessEvent:
        """The count-th event of a kind, waiting for it."""
        while self.kinds().count(kind) < count:
            self.more.clear()
            await self.more.wait()
        return [event for event in self.events if event.kind == kind][count - 1]


def run(main: Callable[[ProcessSupervisor, Seen], Awaitable[None]], loop: str = "asyncio") -> None:
    """Run a test's coroutine with a supervisor that is stopped in the end, under a guard against hanging."""
    if loop == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    else:
        factory = None

    async def guarded() -> None:
        seen = Seen()
        supervisor = ProcessSupervisor(seen)
        try:
            async with asyncio.timeout(HANG_S):
                await main(supervisor, seen)
        finally:
            supervisor.kill()
            await supervisor.stop()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(guarded())


def state_of(pid: int) -> str:
    """The kernel's letter for a process's state; X when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    return state_of(pid) not in "ZX"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_child_is_started_again(loop: str, number: int) -> None:
    """A child that dies is noticed by its exit and started again as another process, on either event loop."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        supervisor.start(ProcessSpec(name="worker", argv=SLEEP, restart=SOON))
        first = await seen.until("started")
        os.kill(first.pid, number)
        second = await seen.until("started", 2)
        assert seen.kinds() == ["started", "exited", "restarting", "started"]
        assert (seen.events[1].code, alive(second.pid), alive(first.pid)) == (-number, True, False)
        assert supervisor.states()["worker"].starts == 2

    run(main, loop)


def test_a_crash_loop_is_called_so() -> None:
    """A child that always exits is restarted with growing waits, and from the third time on it says `too_fast`."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        argv = (sys.executable, "-S", "-c", "raise SystemExit(3)")
        supervisor.start(ProcessSpec(name="bad", argv=argv, restart=SOON))
        event = await seen.until("too_fast", 2)
        assert "exit code 3" in event.reason
        assert "restarts too fast" in event.reason

    run(main)


def test_a_limit_gives_up() -> None:
    """Past its limit a child is left failed, with the reason in its state, and `ended` returns."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        policy = RestartPolicy(first_s=0.0, limit=1)
        supervisor.start(ProcessSpec(name="bad", argv=("/nonexistent/program",), restart=policy))
        state = await supervisor.ended("bad")
        assert (state.status, seen.kinds()) == ("failed", ["restarting", "gave_up"])
        assert "cannot be started" in state.reason

    run(main)


def test_without_a_policy_an_exit_is_the_end() -> None:
    """A child without restart policy ends when it exits, and its name can be used again."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        once = ProcessSpec(name="once", argv=(sys.executable, "-S", "-c", ""), restart=None)
        for count in (1, 2):
            supervisor.start(once)
            assert (await supervisor.ended("once")).status == "ended"
            assert seen.kinds().count("exited") == count

    run(main)


def test_a_polite_stop_becomes_hard() -> None:
    """A child that ignores SIGTERM is killed after stop_s, a stopped (SIGSTOP) one too; both are then gone."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        reading, writing = os.pipe()
        supervisor.start(ProcessSpec(name="deaf", argv=STUBBORN, stop_s=0.1, stdout=writing))
        supervisor.start(ProcessSpec(name="frozen", argv=SLEEP, stop_s=0.1))
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 4) == b"deaf"
        os.close(reading)
        pids = [state.pid for state in supervisor.states().values()]
        os.kill(pids[1], signal.SIGSTOP)
        while state_of(pids[1]) != "T":  # a stop and a SIGTERM that are pending together end in the SIGTERM
            await asyncio.sleep(0.01)
        await supervisor.stop()
        assert seen.kinds().count("killed") == 2
        assert not any(alive(pid) for pid in pids)
        assert {state.status for state in supervisor.states().values()} == {"ended"}

    run(main)


def test_a_stop_takes_the_whole_group() -> None:
    """What a child started in its process group goes with it, even when the child itself ends politely."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        reading, writing = os.pipe()
        family = ("/bin/sh", "-c", "sleep 600 & echo $!; wait")
        supervisor.start(ProcessSpec(name="family", argv=family, stdout=writing))
        os.close(writing)
        grandchild = int(await asyncio.to_thread(os.read, reading, 20))
        os.close(reading)
        assert alive(grandchild)
        await supervisor.stop("family")
        until = time.monotonic() + HANG_S
        while alive(grandchild) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert not alive(grandchild)

    run(main)


def test_a_stop_during_the_wait_for_a_restart() -> None:
    """A child that waits for its restart is not started any more once it is stopped."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        spec = ProcessSpec(name="bad", argv=(sys.executable, "-S", "-c", ""), restart=RestartPolicy(first_s=HANG_S))
        supervisor.start(spec)
        await seen.until("restarting")
        await supervisor.stop("bad")
        assert supervisor.states()["bad"].status == "ended"
        assert seen.kinds() == ["started", "exited", "restarting"]

    run(main)


def test_an_asked_restart_is_no_death() -> None:
    """`restart` gives another process and leaves no death behind."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        supervisor.start(ProcessSpec(name="worker", argv=SLEEP))
        supervisor.restart("worker", "new version")
        await seen.until("started", 2)
        assert seen.kinds() == ["started", "stopped", "started"]

    run(main)


def test_names_are_unique_and_known() -> None:
    """A name that runs is refused, one that nobody started is not found."""

    async def main(supervisor: ProcessSupervisor, seen: Seen) -> None:
        supervisor.start(ProcessSpec(name="worker", argv=SLEEP))
        with pytest.raises(UsageError, match="worker runs already"):
            supervisor.start(ProcessSpec(name="worker", argv=SLEEP))
        with pytest.raises(NotFound, match="known: worker"):
            await supervisor.stop("wroker")

    run(main)


PARENT = """
import asyncio, sys
from rdv.processes import ProcessSpec, ProcessSupervisor
async def main():
    def tell(event): print(event.pid, flush=True)
    argv = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
    ProcessSupervisor(tell).start(ProcessSpec(name="w", argv=argv))
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_children_die_with_a_killed_supervisor() -> None:
    """kill -9 of the supervisor leaves no child behind."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    until = time.monotonic() + HANG_S
    while alive(child) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(child)
