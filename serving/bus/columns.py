"""Cutting and joining batches, column by column. Pure; what goes in is never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from rdv.ids import MESSAGE_ID_BYTES
from rdv.serving.bus.port import Batch, Events, Requests

DOUBLE_BYTES = 8


def part(batch: Batch, start: int, stop: int) -> Batch:
    """Rows start..stop-1 of a batch, 0 <= start < stop <= n."""
    ids = batch.ids[start * MESSAGE_ID_BYTES : stop * MESSAGE_ID_BYTES]
    if isinstance(batch, Events):
        return Events(batch.topic, batch.reply_to, ids, batch.records[start:stop])
    row_bytes = len(batch.numbers) // batch.n
    words = slice(start * DOUBLE_BYTES, stop * DOUBLE_BYTES)
    return Requests(
        topic=batch.topic,
        reply_to=batch.reply_to,
        n=stop - start,
        ids=ids,
        deadlines=batch.deadlines[words],
        accepted_at=batch.accepted_at[words],
        marks=batch.marks[words],
        numbers=batch.numbers[start * row_bytes : stop * row_bytes],
        strings=[column[start:stop] for column in batch.strings],
    )


def join(batches: Sequence[Batch]) -> Batch:
    """Several batches of one topic as one, in order; len(batches) >= 1."""
    first = batches[0]
    if len(batches) == 1:
        return first
    ids = b"".join([batch.ids for batch in batches])
    if isinstance(first, Events):
        events = cast("Sequence[Events]", batches)
        return Events(first.topic, first.reply_to, ids, [record for batch in events for record in batch.records])
    rows = cast("Sequence[Requests]", batches)
    return Requests(
        topic=first.topic,
        reply_to=first.reply_to,
        n=sum([batch.n for batch in rows]),
        ids=ids,
        deadlines=b"".join([batch.deadlines for batch in rows]),
        accepted_at=b"".join([batch.accepted_at for batch in rows]),
        marks=b"".join([batch.marks for batch in rows]),
        numbers=b"".join([batch.numbers for batch in rows]),
        strings=[[value for batch in rows for value in batch.strings[column]] for column in range(len(first.strings))],
    )


def alive(batch: Batch, now: float) -> tuple[Batch | None, bytes]:
    """What of a batch somebody still waits for (None: nothing), and the ids of the rows whose deadline has passed.

    now: CLOCK_MONOTONIC seconds. Events have no deadline.
    """
    if isinstance(batch, Events):
        return batch, b""
    deadlines = memoryview(batch.deadlines).cast("d")
    if min(deadlines) > now:
        return batch, b""
    if max(deadlines) <= now:
        return None, batch.ids
    kept: list[Batch] = []
    expired: list[bytes] = []
    for at, deadline in enumerate(deadlines):
        if deadline > now:
            kept.append(part(batch, at, at + 1))
        else:
            expired.append(batch.ids[at * MESSAGE_ID_BYTES : (at + 1) * MESSAGE_ID_BYTES])
    return join(kept), b"".join(expired)
