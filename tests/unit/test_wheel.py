"""One timer for all deadlines: nothing early, nothing lost, nothing running when there is nothing to do."""

import asyncio
import time

import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rdv.clock import ManualClock
from rdv.serving.gateway.wheel import TICK_S, Wheel


class Timers:
    """A loop's timers on a manual clock: what `Wheel` needs of a loop."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.armed = clock, {}
        self._last = 0

    def call_later(self, delay_s: float, call):  # type: ignore[no-untyped-def]
        """Remember a call; returns what can be cancelled."""
        self._last += 1
        key = self._last
        self.armed[key] = (self.clock.monotonic() + delay_s, call)

        class Handle:
            def cancel(handle) -> None:
                self.armed.pop(key, None)

        return Handle()

    def run(self) -> bool:
        """Let time pass to the next timer and fire it; False when there is none."""
        if not self.armed:
            return False
        key = min(self.armed, key=lambda one: self.armed[one][0])
        moment, call = self.armed.pop(key)
        self.clock.mono_s = max(self.clock.mono_s, moment)
        call()
        return True


@example([(0.0, 0.09765625), (0.0625, 0.09868362546496491), (0.1, -0.03125)])
@given(st.lists(st.tuples(st.floats(0, 0.2), st.floats(-0.05, 0.2)), min_size=1, max_size=40))
def test_everything_is_looked_at_once_and_not_early(plan: list[tuple[float, float]]) -> None:
    """Whatever is added when, each item comes up once, at its moment or within two ticks after it."""
    clock = ManualClock()
    timers = Timers(clock)
    seen: list[tuple[int, float]] = []
    wheel: Wheel[int] = Wheel(lambda item, now: seen.append((item, now)), timers, clock)  # type: ignore[arg-type]
    due = {}
    for item, (pause, ahead) in enumerate(plan):
        end = clock.monotonic() + pause
        while timers.armed and min(moment for moment, _ in timers.armed.values()) <= end:
            timers.run()
        clock.mono_s = end
        due[item] = max(clock.monotonic() + ahead, clock.monotonic())
        wheel.add(item, clock.monotonic() + ahead)
        assert len(timers.armed) == 1
    while timers.run():
        assert len(timers.armed) <= 1
    assert sorted(item for item, _ in seen) == list(range(len(plan)))
    for item, now in seen:
        assert due[item] - 1e-9 <= now <= due[item] + 2.001 * TICK_S
    assert len(wheel) == 0


@settings(max_examples=5)
@given(st.integers(1, 5))
def test_an_empty_wheel_sleeps(items: int) -> None:
    """With nothing added no timer is armed; closing forgets everything."""
    timers = Timers(ManualClock())
    wheel: Wheel[int] = Wheel(lambda item, now: None, timers, timers.clock)  # type: ignore[arg-type]
    assert not timers.armed
    for item in range(items):
        wheel.add(item, timers.clock.monotonic() + item)
    assert len(wheel) == items
    wheel.close()
    assert not timers.armed
    assert len(wheel) == 0


def test_one_bad_look_does_not_stop_the_wheel() -> None:
    """An item whose look raises is the loop's to report; the others still come up."""
    seen = []
    timers = Timers(ManualClock())

    def due(item: str, now: float) -> None:
        seen.append(item)
        if item == "bad":
            raise ValueError

    wheel: Wheel[str] = Wheel(due, timers, timers.clock)  # type: ignore[arg-type]
    wheel.add("bad", timers.clock.monotonic() + 0.001)
    wheel.add("good", timers.clock.monotonic() + 0.002)
    failures = 0
    while timers.armed:
        try:
            timers.run()
        except ValueError:
            failures += 1
    assert failures == 1
    assert seen == ["bad", "good"]


def test_in_a_real_loop_nothing_is_early() -> None:
    """In uvloop, whose clock is coarse, items come up at their moments and never before."""
    seen = {}

    async def scenario() -> None:
        done = asyncio.Event()

        def due(item: float, now: float) -> None:
            seen[item] = time.monotonic()
            if len(seen) == 20:
                done.set()

        wheel: Wheel[float] = Wheel(due, asyncio.get_running_loop())
        start = time.monotonic()
        for at in range(20):
            wheel.add(start + at * 0.0017, start + at * 0.0017)
        async with asyncio.timeout(10):
            await done.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
    assert all(at >= moment for moment, at in seen.items())


def test_what_asks_to_be_looked_at_again_at_once_waits_a_tick() -> None:
    """An item that is put back for a moment that has passed comes up in the next tick, not for ever in this one."""
    clock = ManualClock()
    timers = Timers(clock)
    seen: list[float] = []

    def due(item: str, now: float) -> None:
        seen.append(now)
        if len(seen) < 3:
            wheel.add(item, clock.monotonic() - 1.0)

    wheel: Wheel[str] = Wheel(due, timers, clock)  # type: ignore[arg-type]
    wheel.add("again", clock.monotonic())
    while timers.run():
        pass
    assert len(set(seen)) == 3


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_ticks_that_nobody_needs_are_passed_over(plan: list[tuple[int, bool]]) -> None:
    """A tick whose items have all left is emptied and wakes nobody; in any other tick every item that stays is seen."""
    clock = ManualClock()
    timers = Timers(clock)
    seen: list[int] = []
    wheel: Wheel[int] = Wheel(lambda item, now: seen.append(item), timers, clock)  # type: ignore[arg-type]
    ticks = [wheel.add(item, clock.monotonic() + 0.01 * (at + 1)) for item, (at, _) in enumerate(plan)]
    for tick, (_, leaves) in zip(ticks, plan, strict=True):
        if leaves:
            tick.leave()
    needed = {at for at, leaves in plan if not leaves}
    wakes = 0
    while timers.run():
        wakes += 1
    assert {item for item, (_, leaves) in enumerate(plan) if not leaves} <= set(seen)
    assert all(plan[item][0] in needed for item in seen)
    assert wakes <= 2 * len(needed) + 2
    assert len(wheel) == 0
