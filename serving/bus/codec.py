"""The bus's messages as bytes, and bytes as messages: the one binary form that every adapter shares.

A frame is its length (4 bytes, little-endian, of what follows), its kind (1 byte) and its payload. Rows travel as
columns: ids, deadlines and feature values lie side by side, so that a reader has a ready matrix. Strings travel as
one msgpack document. Nothing here can run code, and a frame is refused unless every length in it agrees.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

import msgspec

from rdv.errors import BusError
from rdv.ids import MESSAGE_ID_BYTES
from rdv.inputs import RowSchema
from rdv.serving.bus.port import Batch, Events, Identity, Requests, Scores

PROTOCOL = 1
HEADER = struct.Struct("<IB")
HELLO, WELCOME, REFUSED, REQUESTS, EVENTS, SCORES, ANNOUNCE = range(1, 8)
MAX_FRAME_BYTES = 16 << 20
MAX_HELLO_BYTES = 1 << 20

_REQUESTS = struct.Struct("<IIIHH")  # rows, bytes of numbers, bytes of strings, of topic, of reply_to
_EVENTS = struct.Struct("<IHH")  # rows, bytes of topic, of reply_to
_SCORES = struct.Struct("<IIIddHH")  # scored, width, skipped, queue_s, eval_s, bytes of reply_to, of version
_REQUESTS_HEAD = struct.Struct("<IBIIIHH")  # HEADER and _REQUESTS in one
_SCORES_HEAD = struct.Struct("<IBIIIddHH")  # HEADER and _SCORES in one
_ROW_BYTES = MESSAGE_ID_BYTES + 3 * 8  # id, deadline, accepted_at, marks
_STRINGS = msgspec.msgpack.Decoder(list[list[str | None]])
_RECORDS = msgspec.msgpack.Decoder(list[bytes])
T = TypeVar("T")


class Hello(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first frame of a subscriber: who it is, and the protocol it speaks."""

    protocol: int
    topic: str
    name: str
    replica: str
    version: str
    numbers: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    credit: int = 2
    archive: bool = False


class Welcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hub's answer to a subscriber that it takes."""

    protocol: int
    gateway: str


def frame(kind: int, *parts: bytes) -> bytes:
    """One frame of these payload parts."""
    return b"".join((HEADER.pack(1 + sum(map(len, parts)), kind), *parts))


def encode_batch(batch: Batch) -> bytes:
    """A batch of requests or events as one frame."""
    topic, reply_to = batch.topic.encode(), batch.reply_to.encode()
    if isinstance(batch, Events):
        head = _EVENTS.pack(batch.n, len(topic), len(reply_to))
        return frame(EVENTS, head, topic, reply_to, batch.ids, msgspec.msgpack.encode(batch.records))
    strings = msgspec.msgpack.encode(batch.strings) if batch.strings else b""
    n, numbers = batch.n, batch.numbers
    texts = len(topic) + len(reply_to)
    size = 1 + _REQUESTS.size + texts + _ROW_BYTES * n + len(numbers) + len(strings)
    head = _REQUESTS_HEAD.pack(size, REQUESTS, n, len(numbers), len(strings), len(topic), len(reply_to))
    return b"".join(
        (head, topic, reply_to, batch.ids, batch.deadlines, batch.accepted_at, batch.marks, numbers, strings)
    )


def decode_batch(kind: int, payload: bytes) -> Batch:
    """The batch in a frame's payload; BusError when the kind is no batch's or the lengths do not agree."""
    if kind == REQUESTS:
        return _decode_requests(payload)
    if kind == EVENTS:
        return _decode_events(payload)
    raise BusError(f"frame of unexpected kind {kind}", "both ends must run the same version of rdv")


def _decode_requests(payload: bytes) -> Requests:
    n, number_bytes, string_bytes, topic_bytes, reply_bytes = _head(_REQUESTS, payload)
    words = 8 * n
    cuts = (topic_bytes, reply_bytes, MESSAGE_ID_BYTES * n, words, words, words, number_bytes, string_bytes)
    topic, reply_to, ids, deadlines, accepted_at, marks, numbers, strings = _cut(payload, _REQUESTS.size, cuts)
    if n == 0 or number_bytes % words:
        raise BusError(f"requests frame of {n} rows with {number_bytes} bytes of numbers is malformed")
    columns = _decoded(_STRINGS, strings) if strings else []
    if any(len(column) != n for column in columns):
        raise BusError(f"requests frame of {n} rows has a string column of another length")
    return Requests(_text(topic), _text(reply_to), n, ids, deadlines, accepted_at, marks, numbers, columns)


def _decode_events(payload: bytes) -> Events:
    n, topic_bytes, reply_bytes = _head(_EVENTS, payload)
    cuts = (topic_bytes, reply_bytes, MESSAGE_ID_BYTES * n)
    rest = _EVENTS.size + sum(cuts)
    topic, reply_to, ids, records = _cut(payload, _EVENTS.size, (*cuts, max(0, len(payload) - rest)))
    decoded = _decoded(_RECORDS, records)
    if n == 0 or len(decoded) != n:
        raise BusError(f"events frame of {n} ids has {len(decoded)} records")
    return Events(_text(topic), _text(reply_to), ids, decoded)


def encode_scores(scores: Scores) -> bytes:
    """One replica's answer as one frame."""
    reply_to, version = scores.reply_to.encode(), scores.version.encode()
    ids, values = scores.ids, scores.values
    head = _SCORES_HEAD.pack(
        1 + _SCORES.size + len(reply_to) + len(version) + len(ids) + len(values),
        SCORES,
        len(ids) // MESSAGE_ID_BYTES,
        scores.width,
        scores.skipped,
        scores.queue_s,
        scores.eval_s,
        len(reply_to),
        len(version),
    )
    return b"".join((head, reply_to, version, ids, values))


def decode_scores(payload: bytes) -> Scores:
    """The answer in a frame's payload; BusError when its lengths do not agree."""
    n, width, skipped, queue_s, eval_s, reply_bytes, version_bytes = _head(_SCORES, payload)
    # spelled out, since the gateway does this for every frame of every model
    reply_end = _SCORES.size + reply_bytes
    version_end = reply_end + version_bytes
    ids_end = version_end + MESSAGE_ID_BYTES * n
    if ids_end + 8 * width * n != len(payload):
        raise BusError(f"scores frame of {len(payload)} bytes does not hold {n} rows of {width} values")
    reply_to, version = _text(payload[_SCORES.size : reply_end]), _text(payload[reply_end:version_end])
    ids, values = payload[version_end:ids_end], payload[ids_end:]
    return Scores(reply_to, version, ids, values, width, skipped, queue_s, eval_s)


def encode_hello(identity: Identity) -> bytes:
    """The first frame of a subscriber with this identity."""
    hello = Hello(
        protocol=PROTOCOL,
        topic=identity.topic,
        name=identity.name,
        replica=identity.replica,
        version=identity.version,
        numbers=identity.schema.numbers,
        strings=identity.schema.strings,
        credit=identity.credit,
        archive=identity.archive,
    )
    return frame(HELLO, msgspec.msgpack.encode(hello))


def decode_hello(payload: bytes) -> Identity:
    """The identity in a subscriber's first frame; BusError for another protocol than ours."""
    try:
        spoken = msgspec.msgpack.decode(payload, type=_Spoken).protocol
    except msgspec.MsgspecError as error:
        raise BusError(f"malformed hello: {error}") from None
    if spoken != PROTOCOL:
        raise BusError(f"protocol {spoken} is not ours ({PROTOCOL})", "both ends must run the same version of rdv")
    hello = _decoded(_HELLO, payload)
    return Identity(
        topic=hello.topic,
        name=hello.name,
        replica=hello.replica,
        version=hello.version,
        schema=RowSchema(hello.numbers, hello.strings),
        credit=hello.credit,
        archive=hello.archive,
    )


def encode_welcome(gateway: str) -> bytes:
    """The hub's answer to a subscriber that it takes."""
    return frame(WELCOME, msgspec.msgpack.encode(Welcome(protocol=PROTOCOL, gateway=gateway)))


def decode_welcome(payload: bytes) -> Welcome:
    """What the hub said when it took us."""
    return _decoded(_WELCOME, payload)


def encode_text(kind: int, text: str) -> bytes:
    """A frame that holds one text: a refusal's reason or an announced version."""
    return frame(kind, text.encode("utf-8", "replace"))


def decode_text(payload: bytes) -> str:
    """The text in a payload; BusError when it is not UTF-8."""
    return _text(payload)


class FrameReader:
    """Cuts a stream of bytes into frames, whatever the pieces it arrives in; holds at most one unfinished frame."""

    __slots__ = ("_left", "_need", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._left = bytearray()
        self._need = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The kinds and payloads of all frames that are whole now; BusError for one longer than max_bytes."""
        if self._left:
            self._left += data
            if len(self._left) < self._need:
                return []
            data = bytes(self._left)
            self._left.clear()
        frames: list[tuple[int, bytes]] = []
        at, end, self._need = 0, len(data), HEADER.size
        while end - at >= HEADER.size:
            size, kind = HEADER.unpack_from(data, at)
            if not 1 <= size <= self.max_bytes:
                raise BusError(f"frame of {size} bytes is refused (at most {self.max_bytes})")
            stop = at + HEADER.size - 1 + size
            if stop > end:
                self._need = stop - at
                break
            frames.append((kind, data[at + HEADER.size : stop]))
            at = stop
        if at < end:
            self._left += data[at:]
        return frames


class _Spoken(msgspec.Struct):
    protocol: int


_HELLO = msgspec.msgpack.Decoder(Hello)
_WELCOME = msgspec.msgpack.Decoder(Welcome)


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BusError(f"malformed frame: {error}") from None


def _head(layout: struct.Struct, payload: bytes) -> tuple[Any, ...]:
    if len(payload) < layout.size:
        raise BusError(f"frame of {len(payload)} bytes is too short")
    return layout.unpack_from(payload)


def _cut(payload: bytes, at: int, lengths: tuple[int, ...]) -> list[bytes]:
    if at + sum(lengths) != len(payload):
        raise BusError(f"frame of {len(payload)} bytes does not hold what its lengths say ({at + sum(lengths)})")
    parts = []
    for length in lengths:
        parts.append(payload[at : at + length])
        at += length
    return parts


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BusError("frame holds a text that is not UTF-8") from None
