"""The bus port's contract on delivery: every adapter keeps every promise, the one within a process first."""

import asyncio
import math
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from rdv.errors import BusError
from rdv.inputs import RowSchema
from rdv.serving.bus.exchange import Limits
from rdv.serving.bus.port import Batch, Events, Identity, Scores, Traffic

Run = Callable[..., None]


def test_every_name_receives_every_row(run_bus: Run) -> None:
    """Each name that subscribes to a topic is handed each row that is published to it, unchanged and in order."""

    async def scenario(bench: Any) -> None:
        one, two = await bench.join("champion"), await bench.join("challenger")
        batch = bench.rows(3, plan=["a", None, "\0\U0001f600\u202e\ufffd\r\n"])
        bench.hub.publish(batch)
        for subscription in (one, two):
            assert await subscription.receive() == [batch]

    run_bus(scenario, names=("champion", "challenger"))


def test_scores_come_back(run_bus: Run) -> None:
    """What a replica answers reaches the hub with its identity, its values to the bit (NaN too) and its times."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join()
        bench.hub.publish(bench.rows(2))
        (batch,) = await subscription.receive()
        sent = Scores("gw-1", "v7", batch.ids, struct.pack("<4d", 0.1, math.nan, -0.0, math.inf), 2, 0, 0.25, 0.5)
        subscription.send(sent)
        await bench.until(lambda: bool(bench.scores))
        identity, scores = bench.scores[0]
        assert scores == sent
        assert (identity.name, identity.replica) == ("champion", "r1")

    run_bus(scenario)


def test_replicas_share(run_bus: Run) -> None:
    """Replicas under one name share its rows: each row goes to exactly one of them."""

    async def scenario(bench: Any) -> None:
        one, two = await bench.join(replica="r1"), await bench.join(replica="r2")
        for first in range(4):
            bench.hub.publish(bench.rows(1, first))
        seen = [*bench.ages(await one.receive()), *bench.ages(await two.receive())]
        await bench.until(lambda: True)
        assert set(seen) <= {0, 1, 2, 3}
        assert len(seen) == len(set(seen))
        assert bench.traffic().in_flight == 4

    run_bus(scenario)


def test_credit_bounds_what_a_stopped_replica_holds(run_bus: Run) -> None:
    """A replica that answers nothing is sent its credit of frames; the rest waits and comes as one frame."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join(credit=2)
        for first in range(10):
            bench.hub.publish(bench.rows(1, first))
        assert (bench.traffic().in_flight, bench.traffic().waiting) == (2, 8)
        received = await subscription.receive()
        while len(received) < 2:
            received += await subscription.receive()
        assert bench.ages(received) == [0, 1]
        bench.answer(subscription, received[0])
        (merged,) = await subscription.receive()
        assert bench.ages([merged]) == list(range(2, 10))

    run_bus(scenario)


def test_sibling_takes_what_a_stopped_replica_does_not_hold(run_bus: Run) -> None:
    """Rows beyond a stopped replica's credit are answered by its sibling."""

    async def scenario(bench: Any) -> None:
        await bench.join(replica="stopped", credit=1)
        other = await bench.join(replica="r2", credit=1)
        for first in range(20):
            bench.hub.publish(bench.rows(1, first))
        assert len(await bench.answer_all(other, 19)) == 19
        await bench.until(lambda: bench.traffic().answered == 19)
        assert bench.traffic().in_flight == 1

    run_bus(scenario)


def test_full_queue_is_counted(run_bus: Run) -> None:
    """A queue takes in what its bound allows; the rest is a counted drop that names the rows."""

    async def scenario(bench: Any) -> None:
        await bench.join(credit=1)
        bench.hub.publish(bench.rows(1))
        batch = bench.rows(30)
        bench.hub.publish(batch)
        assert (bench.traffic().waiting, bench.traffic().drops) == (20, {"queue_full": 10})
        assert bench.lost == [(bench.TOPIC, "champion", batch.ids[16 * 20 :], "queue_full")]

    run_bus(scenario, Limits(waiting_rows=20, linger_s=0.05))


def test_absent_name_is_counted(run_bus: Run) -> None:
    """Rows for an expected name that is not there are counted at once; a name nobody expects costs nothing."""

    async def scenario(bench: Any) -> None:
        bench.hub.publish(bench.rows(3))
        assert bench.traffic() == Traffic(published=3, dropped=3, drops={"no_subscriber": 3})
        assert set(bench.hub.traffic()) == {(bench.TOPIC, "champion")}

    run_bus(scenario)


def test_expired_rows_leave_the_queue(run_bus: Run) -> None:
    """Waiting rows whose deadline has passed are counted as expired and not sent; the others are."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join(credit=1)
        bench.hub.publish(bench.rows(1, 0))
        bench.hub.publish(bench.rows(2, 10, deadline=time.monotonic() + 0.01))
        bench.hub.publish(bench.rows(2, 20))
        await asyncio.sleep(0.02)
        (first,) = await subscription.receive()
        bench.answer(subscription, first)
        assert bench.ages(await subscription.receive()) == [20, 21]
        assert bench.traffic().drops == {"expired": 2}

    run_bus(scenario)


def test_archive_receives_expired_rows(run_bus: Run) -> None:
    """An archive is handed every row, late ones and those published while it was away included."""

    async def scenario(bench: Any) -> None:
        decoy = await bench.join("decoy", credit=1, archive=True)
        bench.hub.publish(bench.rows(1, 0))
        bench.hub.publish(bench.rows(2, 1, deadline=time.monotonic() - 1.0))
        assert await bench.answer_all(decoy, 3) == [0, 1, 2]
        await decoy.close()
        await bench.until(lambda: not bench.hub.replicas(bench.TOPIC))
        bench.hub.publish(bench.rows(2, 3))
        again = await bench.join("decoy", replica="r2", archive=True)
        assert await bench.answer_all(again, 2) == [3, 4]
        await bench.until(lambda: bench.traffic("decoy") == Traffic(published=5, answered=5))

    run_bus(scenario)


def test_large_batches_travel_in_bounded_frames(run_bus: Run) -> None:
    """A frame holds at most max_rows rows and max_frame_bytes bytes, however large the batch was."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join(credit=64)
        bench.hub.publish(bench.rows(25, plan=["x" * 300] * 25))
        received: list[Batch] = []
        while sum(batch.n for batch in received) < 25:
            received += await subscription.receive()
        assert bench.ages(received) == list(range(25))
        assert max(batch.n for batch in received) <= 6

    run_bus(scenario, Limits(max_rows=10, max_frame_bytes=2500, linger_s=0.05))


def test_row_larger_than_a_frame_is_counted(run_bus: Run) -> None:
    """A single row that no frame may hold is a counted drop, not an error."""

    async def scenario(bench: Any) -> None:
        await bench.join()
        bench.hub.publish(bench.rows(1, plan=["x" * 5000]))
        assert bench.traffic().drops == {"too_large": 1}

    run_bus(scenario, Limits(max_frame_bytes=2000, linger_s=0.05))


def test_skipped_rows_are_counted(run_bus: Run) -> None:
    """A replica may leave out rows nobody waits for; they count as skipped."""

    async def scenario(bench: Any) -> None:
        subscription = await bench.join()
        bench.hub.publish(bench.rows(5))
        (batch,) = await subscription.receive()
        bench.answer(subscription, batch, scored=2)
        await bench.until(lambda: bench.traffic() == Traffic(published=5, answered=2, skipped=3))

    run_bus(scenario)


def test_events_travel(run_bus: Run) -> None:
    """Event records reach the recorder unchanged, and join while they wait."""

    async def scenario(bench: Any) -> None:
        bench.hub.expect("visit/events", RowSchema(), ["recorder"])
        recorder = await bench.subscribe(Identity("visit/events", "recorder", "r1", "", credit=1, archive=True))
        for at in range(3):
            bench.hub.publish(Events("visit/events", "gw-1", bytes([at]) * 16, [bytes([at]) * 5]))
            if at == 0:
                (first,) = await recorder.receive()
        recorder.send(Scores("gw-1", "", first.ids, b"", 0))
        (rest,) = await recorder.receive()
        assert isinstance(rest, Events)
        assert rest.records == [b"\1" * 5, b"\2" * 5]

    run_bus(scenario)


def test_publish_needs_a_declared_topic(run_bus: Run) -> None:
    """Publishing to a topic that was never declared is a mistake of the caller, and says so."""

    async def scenario(bench: Any) -> None:
        batch = bench.rows(1)
        batch.topic = "nowhere"
        with pytest.raises(BusError, match="never declared"):
            bench.hub.publish(batch)
        with pytest.raises(BusError, match="another row schema"):
            bench.hub.expect(bench.TOPIC, RowSchema(("other",)), [])

    run_bus(scenario)


def test_archives_receive_company(run_bus: Run) -> None:
    """Rows for an archive travel together, after a short while, however many batches they were published in."""

    async def scenario(bench: Any) -> None:
        decoy = await bench.join("decoy", archive=True, credit=4)
        for first in range(6):
            bench.hub.publish(bench.rows(1, first))
            await asyncio.sleep(0)
        (batch,) = await decoy.receive()
        assert bench.ages([batch]) == list(range(6))

    run_bus(scenario, Limits(archive_s=0.05, linger_s=0.05))


def test_probe_reaches_only_the_named(run_bus: Run) -> None:
    """A batch may be published to some names only; the others neither receive nor count it."""

    async def scenario(bench: Any) -> None:
        one, two = await bench.join("champion"), await bench.join("challenger")
        bench.hub.publish(bench.rows(1, 5), ["champion"])
        bench.hub.publish(bench.rows(1, 6))
        assert bench.ages([*await one.receive()])[0] == 5
        assert bench.ages(await two.receive()) == [6]
        assert (bench.traffic().published, bench.traffic("challenger").published) == (2, 1)

    run_bus(scenario, names=("champion", "challenger"))
