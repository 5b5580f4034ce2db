"""Task owners: who lives, who dies with whom, and the order of a stop."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable

import pytest

from rdv.errors import Interrupted, Refused
from rdv.restarts import RestartPolicy
from rdv.supervise import TaskEvent, TaskOwner

AT_ONCE = RestartPolicy(first_s=0.0, jitter=0.0, fast=1000)
HANG_S = 20.0


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine with a guard against hanging."""

    async def guarded() -> None:
        async with asyncio.timeout(HANG_S):
            await main()

    asyncio.run(guarded())


async def forever() -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()


def owner(**settings: object) -> tuple[TaskOwner, list[TaskEvent]]:
    """An owner and the events that it reports."""
    events: list[TaskEvent] = []
    return TaskOwner("gateway", report=events.append, **settings), events  # type: ignore[arg-type]


def test_a_stop_runs_its_steps_in_order() -> None:
    """Intake closes, drains run while tasks live, tasks are cancelled, flushes run, the stack closes last."""

    async def main() -> None:
        found: list[str] = []
        one, _ = owner()

        async def worker() -> None:
            try:
                await forever()
            finally:
                found.append("cancelled")

        async def drain() -> None:
            found.append("drain")

        one.task("worker", worker)
        one.on_stop("door", intake=lambda: found.append("intake"), flush=lambda: found.append("flush"))
        one.on_stop("box", drain=drain)
        one.stack.callback(found.append, "stack")
        asyncio.get_running_loop().call_soon(one.stop, "enough")
        assert await one.run() == "enough"
        assert found == ["intake", "drain", "cancelled", "flush", "stack"]

    run(main)


def test_a_death_without_policy_brings_the_owner_down() -> None:
    """The first task to raise stops the others in order, and run() raises what it raised, naming the task."""

    async def main() -> None:
        one, events = owner()
        ended = asyncio.Event()

        async def bad() -> None:
            raise Refused("no room")

        async def other() -> None:
            try:
                await forever()
            finally:
                ended.set()

        one.task("other", other)
        one.task("bad", bad)
        with pytest.raises(Refused) as caught:
            await one.run()
        assert ended.is_set()
        assert "task bad of gateway" in caught.value.__notes__
        assert [event.kind for event in events if event.name == "bad"] == ["died"]

    run(main)


def test_a_task_that_returns_early_is_dead() -> None:
    """A task that should run for ever and returns brings the owner down with a reason."""

    async def main() -> None:
        one, _ = owner()

        async def short() -> None:
            return

        one.task("short", short)
        with pytest.raises(Exception, match="short of gateway returned"):
            await one.run()

    run(main)


def test_a_death_with_policy_restarts() -> None:
    """A task with a policy is started anew after each death, with an event and reason for each."""

    async def main() -> None:
        one, events = owner()
        starts = 0

        async def flaky() -> None:
            nonlocal starts
            starts += 1
            if starts < 4:
                raise ValueError(f"start {starts}")
            one.stop("done")
            await forever()

        one.task("flaky", flaky, AT_ONCE)
        assert await one.run() == "done"
        restarts = [event.reason for event in events if event.kind == "restarting"]
        assert [reason.split(";")[0] for reason in restarts] == [f"ValueError: start {n}" for n in (1, 2, 3)]

    run(main)


def test_restarts_end_at_the_limit() -> None:
    """A task that dies more often than its policy allows brings the owner down."""

    async def main() -> None:
        one, events = owner()

        async def bad() -> None:
            raise ValueError("always")

        one.task("bad", bad, RestartPolicy(first_s=0.0, limit=3))
        with pytest.raises(ValueError, match="always"):
            await one.run()
        assert [event.kind for event in events if event.name == "bad"] == ["restarting"] * 3 + ["died"]

    run(main)


def test_a_foreign_cancellation_is_a_death() -> None:
    """A task whose awaited future somebody else cancelled is restarted; it does not vanish in silence."""

    async def main() -> None:
        one, events = owner()
        waits: list[asyncio.Future[None]] = []

        async def waiting() -> None:
            waits.append(asyncio.get_running_loop().create_future())
            if len(waits) == 1:
                asyncio.get_running_loop().call_soon(waits[0].cancel)
            else:
                one.stop("second life")
            await waits[-1]

        one.task("waiting", waiting, AT_ONCE)
        assert await one.run() == "second life"
        assert [event.kind for event in events if event.name == "waiting"] == ["restarting"]

    run(main)


def test_stop_before_start_starts_nothing() -> None:
    """A stop that comes before the start leaves no task run, and the stop steps still happen."""

    async def main() -> None:
        one, _ = owner()
        found: list[str] = []

        async def never() -> None:
            found.append("task")

        one.task("never", never)
        one.on_stop("door", flush=lambda: found.append("flush"))
        one.stop("too early")
        assert await one.run() == "too early"
        assert found == ["flush"]

    run(main)


def test_stop_twice_is_one_stop() -> None:
    """However often stop and close are called, each step runs once and the first reason stays."""

    async def main() -> None:
        one, _ = owner()
        found: list[str] = []
        one.on_stop("door", flush=lambda: found.append("flush"))
        async with one:
            one.stop("first")
            one.stop("second")
            async with asyncio.TaskGroup() as group:
                group.create_task(one.close())
                group.create_task(one.close())
        one.stop("after the end")
        await one.close()
        assert (one.reason, found) == ("first", ["flush"])

    run(main)


def test_stop_from_another_thread() -> None:
    """A stop from another thread wakes the loop at once, and one after the loop's end is no error."""
    one, _ = owner()

    async def main() -> None:
        one.task("worker", forever)
        threading.Thread(target=one.stop, args=("elsewhere",)).start()
        assert await one.run() == "elsewhere"

    run(main)
    one.stop("the loop is closed")


def test_a_second_signal_cuts_the_drain() -> None:
    """The first SIGTERM drains, the second one ends the drain at once; the flush still runs."""

    async def main() -> None:
        one, events = owner(signals=True, drain_s=HANG_S)
        found: list[str] = []

        async def drain() -> None:
            found.append("draining")
            os.kill(os.getpid(), signal.SIGTERM)
            await forever()

        one.on_stop("box", drain=drain, flush=lambda: found.append("flush"))
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        assert await one.run() == "SIGTERM"
        assert found == ["draining", "flush"]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    run(main)


def test_a_drain_that_overruns_is_cancelled_and_named() -> None:
    """Drains share drain_s; one that takes longer is reported, the others are not disturbed."""

    async def main() -> None:
        one, events = owner(drain_s=0.05)
        found: list[str] = []

        async def quick() -> None:
            found.append("quick")

        one.on_stop("slow", drain=forever)
        one.on_stop("quick", drain=quick)
        one.stop("now")
        await one.run()
        assert found == ["quick"]
        assert ["slow" in event.name for event in events if event.kind == "overrun"] == [True]

    run(main)


def test_a_failing_step_does_not_end_the_stop() -> None:
    """A step that raises is reported and the following steps run."""

    async def main() -> None:
        one, events = owner()
        found: list[str] = []

        def bad() -> None:
            raise OSError("gone")

        one.on_stop("bad", intake=bad)
        one.on_stop("good", flush=lambda: found.append("flush"))
        one.stop("now")
        await one.run()
        assert found == ["flush"]
        assert [event.reason for event in events if event.kind == "failed"] == ["OSError: gone"]

    run(main)


def test_a_cancelled_caller_still_flushes() -> None:
    """Cancelling run() stops in order: the flush is complete before the cancellation goes on."""

    async def main() -> None:
        one, _ = owner()
        found: list[str] = []
        flushing = asyncio.Event()

        async def flush() -> None:
            flushing.set()
            await asyncio.sleep(0.05)
            found.append("flushed")

        one.on_stop("journal", flush=flush)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(0)
        running.cancel()
        await flushing.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert found == ["flushed"]

    run(main)


def test_a_spawned_task_may_end_but_not_fail() -> None:
    """A one-off task hands its result back; one that raises brings the owner down."""

    async def main() -> None:
        one, _ = owner()

        async def fine() -> int:
            return 7

        async def bad() -> None:
            raise ValueError("odd")

        async with one:
            assert await one.spawn("fine", fine()) == 7
            assert not one.stopping

        other, _ = owner()

        async def failing() -> None:
            async with other:
                other.spawn("bad", bad())
                await other.stopped()

        with pytest.raises(ValueError, match="odd"):
            await failing()

    run(main)


def test_a_stopping_owner_starts_nothing() -> None:
    """A task handed to a stopping owner is refused with the reason, and its coroutine is closed."""

    async def main() -> None:
        one, _ = owner()
        async with one:
            one.stop("leaving")
            with pytest.raises(Interrupted, match="leaving"):
                one.spawn("late", forever())
            with pytest.raises(Interrupted, match="leaving"):
                one.task("late", forever)

    run(main)
