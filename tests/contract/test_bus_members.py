"""The bus port's contract on who takes part: refusals, leaving, closing, and a ledger that always balances."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rdv.errors import BusError
from rdv.inputs import RowSchema
from rdv.serving.bus.exchange import Limits
from rdv.serving.bus.port import Identity, Scores, Subscription, Traffic

HANG_S = 60.0

Run = Callable[..., None]


def test_wrong_count_is_refused(run_bus: Run) -> None:
    """A replica that answers other rows than its oldest frame had is refused with a reason."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join()
        bench.hub.publish(bench.rows(5))
        (batch,) = await subscription.receive()
        subscription.send(Scores("gw-1", "v1", batch.ids[:16], bytes(8), 1))
        with pytest.raises(BusError, match="answered 1 rows"):
            await subscription.receive()
        assert bench.traffic().drops == {"disconnected": 5}

    run_bus(scenario)


def test_answer_without_frame_is_refused(run_bus: Run) -> None:
    """Answering twice raises at the subscriber."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join()
        bench.hub.publish(bench.rows(1))
        (batch,) = await subscription.receive()
        bench.answer(subscription, batch)
        with pytest.raises(BusError, match="no received frame"):
            bench.answer(subscription, batch)

    run_bus(scenario)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"replica": "r1"}, "connected already"),
        ({"topic": "nowhere"}, "no topic 'nowhere'"),
        ({"schema": RowSchema(("age", "wealth"), ("plan",))}, "'income' against 'wealth'"),
        ({"schema": RowSchema(("age", "income", "plan"))}, "a number in one and a string in the other"),
        ({"credit": 0}, "credit 0"),
        ({"credit": 1000}, "credit 1000"),
        ({"name": ""}, "empty"),
        ({"replica": "x" * 201}, "longer than"),
    ],
)
def test_identity_is_checked(run_bus: Run, change: dict[str, Any], reason: str) -> None:
    """A duplicate, unknown, unfitting or unbounded identity is refused with the reason; the first one stays."""

    async def scenario(bench: Any) -> None:
        await bench.join(replica="r1")
        with pytest.raises(BusError, match=reason):
            await bench.subscribe(Identity(**{**bench.identity("champion", "r2"), **change}))
        assert [one.replica for one in bench.hub.replicas(bench.TOPIC)] == ["r1"]

    run_bus(scenario)


def test_too_many_subscribers_are_refused(run_bus: Run) -> None:
    """A hub takes as many subscribers as its limit says."""

    async def scenario(bench: Any) -> None:
        await bench.join(replica="r1")
        with pytest.raises(BusError, match="1 subscribers already"):
            await bench.join(replica="r2")

    run_bus(scenario, Limits(connections=1, linger_s=0.05))


def test_announced_version_is_known(run_bus: Run) -> None:
    """The hub knows which version each replica serves, from the moment it announces it."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join()
        subscription.announce("v2")
        await bench.until(lambda: [one.version for one in bench.hub.replicas(bench.TOPIC)] == ["v2"])

    run_bus(scenario)


def test_disconnect_drops_and_frees_the_identity(run_bus: Run) -> None:
    """A replica that leaves loses what it had not answered, counted by id, and may come back under its name."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join(credit=1)
        first = bench.rows(2)
        bench.hub.publish(first)
        bench.hub.publish(bench.rows(3))
        await subscription.close()
        await bench.until(lambda: not bench.hub.replicas(bench.TOPIC))
        assert bench.traffic().drops == {"disconnected": 5}
        assert bench.lost[0] == (bench.TOPIC, "champion", first.ids, "disconnected")
        again = await bench.join(credit=1)
        bench.hub.publish(bench.rows(1, 7))
        assert bench.ages(await again.receive()) == [7]

    run_bus(scenario)


def test_what_was_sent_before_leaving_counts(run_bus: Run) -> None:
    """An answer that was sent before close is counted as answered."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join()
        bench.hub.publish(bench.rows(2))
        (batch,) = await subscription.receive()
        bench.answer(subscription, batch)
        await subscription.close()
        await bench.until(lambda: bench.traffic() == Traffic(published=2, answered=2))

    run_bus(scenario)


def test_cancelled_receive_loses_nothing(run_bus: Run) -> None:
    """Cancelling a waiting receive leaves every frame for the next call."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join(credit=8)
        seen: list[int] = []
        for first in range(8):
            task = asyncio.ensure_future(subscription.receive())
            await asyncio.sleep(0)
            bench.hub.publish(bench.rows(1, first))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                seen += bench.ages(await task)
        while len(seen) < 8:
            seen += bench.ages(await subscription.receive())
        assert seen == list(range(8))

    run_bus(scenario)


def test_hub_death_is_told(run_bus: Run) -> None:
    """When the hub goes, receive hands out what had arrived and then raises BusError; so does send."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join(credit=3)
        bench.hub.publish(bench.rows(2))
        await bench.hub.close()
        (batch,) = await subscription.receive()
        for _ in range(2):
            with pytest.raises(BusError, match="hub is"):
                await subscription.receive()
        with pytest.raises(BusError, match="hub is"):
            bench.answer(subscription, batch)
        assert bench.traffic().drops == {"closed": 2}

    run_bus(scenario)


def test_close_waits_for_answers(run_bus: Run) -> None:
    """A closing hub takes the answers that come within its linger time, and drops what is published meanwhile."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join(credit=1)
        bench.hub.publish(bench.rows(2))
        bench.hub.publish(bench.rows(2))
        closing = asyncio.ensure_future(bench.hub.close())
        await asyncio.sleep(0)
        bench.hub.publish(bench.rows(1))
        await bench.answer_all(subscription, 4)
        await closing
        assert bench.traffic() == Traffic(published=5, answered=4, dropped=1, drops={"closed": 1})

    run_bus(scenario, Limits(linger_s=HANG_S))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["publish", "answer", "skip", "join", "leave"]), st.integers(0, 5))))
def test_ledger_holds_whatever_happens(run_bus: Run, moves: list[tuple[str, int]]) -> None:
    """published = answered + skipped + dropped + waiting + in flight after every move, for every name."""

    async def scenario(bench: Any) -> None:
        live: dict[int, Subscription] = {}
        for move, at in moves:
            if move == "publish":
                bench.hub.publish(bench.rows(at + 1, deadline=time.monotonic() + 0.002 * at))
            elif move == "join" and at not in live:
                live[at] = await bench.join(("champion", "decoy")[at % 2], f"r{at}", archive=bool(at % 2))
            elif move == "leave" and at in live:
                await live.pop(at).close()
            elif at in live:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.005):
                        for batch in await live[at].receive():
                            bench.answer(live[at], batch, scored=0 if move == "skip" else None)
            for one in bench.hub.traffic().values():
                ended = one.answered + one.skipped + one.dropped
                assert one.published == ended + one.waiting + one.in_flight
                assert one.dropped == sum(one.drops.values())
        await bench.hub.close()
        for one in bench.hub.traffic().values():
            assert one.published == one.answered + one.skipped + one.dropped

    run_bus(scenario, Limits(waiting_rows=7, archive_rows=12, linger_s=0.02))
