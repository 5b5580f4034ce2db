"""The bus's binary form: whatever goes in comes out, and nothing else is taken."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import BusError
from rdv.inputs import RowSchema
from rdv.serving.bus import codec
from rdv.serving.bus.columns import alive, join, part
from rdv.serving.bus.port import Batch, Events, Identity, Requests, Scores

texts = st.text(max_size=20)
doubles = st.floats(width=64)


def packed(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


@st.composite
def requests(draw: st.DrawFn, columns: int | None = None, text_columns: int | None = None) -> Requests:
    n = draw(st.integers(1, 6))
    width = draw(st.integers(0, 3)) if columns is None else columns
    strings = draw(st.integers(0, 2)) if text_columns is None else text_columns

    def bytes_of(size: int) -> bytes:
        return draw(st.binary(min_size=size, max_size=size))

    return Requests(
        topic="visit",
        reply_to="gw-1",
        n=n,
        ids=bytes_of(16 * n),
        deadlines=packed(draw(st.lists(st.floats(0, 10), min_size=n, max_size=n))),
        accepted_at=bytes_of(8 * n),
        marks=bytes_of(8 * n),
        numbers=packed(draw(st.lists(doubles, min_size=n * width, max_size=n * width))),
        strings=[draw(st.lists(st.none() | texts, min_size=n, max_size=n)) for _ in range(strings)],
    )


@st.composite
def events(draw: st.DrawFn) -> Events:
    records = draw(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
    size = 16 * len(records)
    return Events(draw(texts), draw(texts), draw(st.binary(min_size=size, max_size=size)), records)


@st.composite
def scores(draw: st.DrawFn) -> Scores:
    n, width = draw(st.integers(0, 5)), draw(st.integers(0, 3))
    values = packed(draw(st.lists(doubles, min_size=n * width, max_size=n * width)))
    ids = draw(st.binary(min_size=16 * n, max_size=16 * n))
    seconds = st.floats(0, 1e6)
    skipped = draw(st.integers(0, 2**32 - 1))
    return Scores(draw(texts), draw(texts), ids, values, width, skipped, draw(seconds), draw(seconds))


def only(data: bytes) -> tuple[int, bytes]:
    ((kind, payload),) = codec.FrameReader(1 << 20).feed(data)
    return kind, payload


@given(requests() | events())
def test_batches_round_trip(batch: Batch) -> None:
    """A batch of requests or events decodes to what was encoded, to the bit."""
    assert codec.decode_batch(*only(codec.encode_batch(batch))) == batch


@given(scores())
def test_scores_round_trip(answer: Scores) -> None:
    """Scores decode to what was encoded, to the bit."""
    kind, payload = only(codec.encode_scores(answer))
    assert kind == codec.SCORES
    assert codec.decode_scores(payload) == answer


@given(texts, st.lists(texts), st.integers(), st.booleans())
def test_identities_round_trip(text: str, names: list[str], credit: int, archive: bool) -> None:
    """A hello decodes to the identity it was made of."""
    identity = Identity(text, text, text, text, RowSchema(tuple(names), (text,)), credit % 99, archive)
    assert codec.decode_hello(only(codec.encode_hello(identity))[1]) == identity


@given(st.sampled_from([codec.REQUESTS, codec.EVENTS]), st.binary(max_size=200))
def test_decoding_rubbish_raises_only_bus_errors(kind: int, payload: bytes) -> None:
    """Bytes that are no message raise BusError, never anything else."""
    for decode in (lambda data: codec.decode_batch(kind, data), codec.decode_scores, codec.decode_hello):
        with contextlib.suppress(BusError):
            decode(payload)


@given(requests() | events(), st.data())
def test_damaged_frames_are_refused_or_decode(batch: Batch, data: st.DataObject) -> None:
    """A frame that was cut, extended or changed is refused, or is a well-formed batch whose columns agree."""
    kind, payload = only(codec.encode_batch(batch))
    at = data.draw(st.integers(0, len(payload) - 1))
    damaged = data.draw(
        st.sampled_from([payload[:at], payload + b"\0", payload[:at] + b"\xff" + payload[at + 1 :], payload[at:]])
    )
    try:
        found = codec.decode_batch(kind, damaged)
    except BusError:
        return
    assert len(found.ids) == 16 * found.n
    if isinstance(found, Requests):
        assert all(len(column) == 8 * found.n for column in (found.deadlines, found.accepted_at, found.marks))
        assert all(len(column) == found.n for column in found.strings)


@given(st.lists(requests() | events(), min_size=1, max_size=4), st.data())
def test_stream_may_be_cut_anywhere(batches: list[Batch], data: st.DataObject) -> None:
    """However a stream is cut into pieces, the reader finds the same frames in the same order."""
    stream = b"".join(codec.encode_batch(batch) for batch in batches)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    reader = codec.FrameReader(1 << 20)
    found = [
        one
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for one in reader.feed(stream[start:end])
    ]
    assert [codec.decode_batch(*one) for one in found] == batches


def test_reader_refuses_before_it_holds_too_much() -> None:
    """A frame longer than the bound is refused when its first five bytes are there."""
    with pytest.raises(BusError, match="at most 100"):
        codec.FrameReader(100).feed(struct.pack("<IB", 101, codec.SCORES))


@given(st.lists(requests(2, 1), min_size=1, max_size=4))
def test_join_and_part_are_inverse(batches: list[Requests]) -> None:
    """Cutting a joined batch at its seams gives the batches it was joined from."""
    joined: Batch = join(batches)
    at = 0
    for batch in batches:
        assert part(joined, at, at + batch.n) == batch
        at += batch.n
    assert at == joined.n


@given(requests(1, 1), st.floats(0, 10))
def test_alive_splits_by_deadline(batch: Requests, now: float) -> None:
    """Every row is either alive, unchanged and in order, or its id is among the expired."""
    live, expired = alive(batch, now)
    deadlines = struct.unpack(f"<{batch.n}d", batch.deadlines)
    ids = [batch.ids[16 * at : 16 * at + 16] for at in range(batch.n)]
    assert expired == b"".join(one for one, deadline in zip(ids, deadlines, strict=True) if deadline <= now)
    kept = [at for at, deadline in enumerate(deadlines) if deadline > now]
    assert live == (join([part(batch, at, at + 1) for at in kept]) if kept else None)
