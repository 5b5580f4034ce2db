"""The bus's messages as `bus.proto` has them: the same values as everywhere, in the published encoding.

The message classes below are a twin of `bus.proto`: the same numbers and bytes on the wire, but a packed field of
doubles is read and written as the bytes that it is, since that is how this side keeps columns. A test holds the twin
against the published file.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from rdv.errors import BusError
from rdv.ids import MESSAGE_ID_BYTES
from rdv.inputs import RowSchema
from rdv.serving.bus.port import Batch, Events, Identity, Requests, Scores

PROTOCOL = 1
PACKAGE = "rdv.bus.v1"
METHOD = f"/{PACKAGE}.Bus/Subscribe"
PACKED = "packed"

_WAITED = struct.Struct("<d")
_WAITED_TAG = b"\x21"  # of FromGateway.waited_s, which is written last: see `stamped`

# message -> fields as (number, name, type); a type that ends in * is repeated, one with a capital is a message
MESSAGES: dict[str, Sequence[tuple[int, str, str]]] = {
    "Hello": (
        (1, "protocol", "uint32"), (2, "topic", "string"), (3, "name", "string"), (4, "replica", "string"),
        (5, "version", "string"), (6, "numbers", "string*"), (7, "strings", "string*"), (8, "credit", "uint32"),
        (9, "archive", "bool"),
    ),
    "Welcome": ((1, "protocol", "uint32"), (2, "gateway", "string")),
    "StringColumn": ((1, "values", "string*"), (2, "missing", "uint32*")),
    "Requests": (
        (1, "topic", "string"), (2, "reply_to", "string"), (3, "ids", "bytes"), (4, "seconds_left", PACKED),
        (5, "accepted_at", PACKED), (6, "marks", PACKED), (7, "numbers", PACKED), (8, "strings", "StringColumn*"),
    ),
    "Events": ((1, "topic", "string"), (2, "reply_to", "string"), (3, "ids", "bytes"), (4, "records", "bytes*")),
    "Scores": (
        (1, "reply_to", "string"), (2, "version", "string"), (3, "ids", "bytes"), (4, "values", PACKED),
        (5, "width", "uint32"), (6, "skipped", "uint32"), (7, "queue_s", "double"), (8, "eval_s", "double"),
    ),
    "Announce": ((1, "version", "string"),),
    "FromSubscriber": ((1, "hello", "Hello|"), (2, "scores", "Scores|"), (3, "announce", "Announce|")),
    "FromGateway": (
        (1, "welcome", "Welcome|"), (2, "requests", "Requests|"), (3, "events", "Events|"), (4, "waited_s", "double"),
    ),
}  # fmt: skip
"""The twin of bus.proto. `packed`: eight bytes a value, kept as bytes. `|`: one of those that the message may hold."""


def _twin() -> dict[str, Any]:
    """The message classes by name, in a pool of their own: the published ones may be loaded beside them."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="rdv/bus_twin.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, label, kind in fields:
            plain = kind.rstrip("*|")
            made = message.field.add(name=label, number=number)
            made.label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            if plain[0].isupper():
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{plain}"
            else:
                made.type = kinds.Type.Value(f"TYPE_{'BYTES' if plain == PACKED else plain.upper()}")
            if kind.endswith("|"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="message")
                made.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


_CLASSES = _twin()
_FromGateway, _FromSubscriber = _CLASSES["FromGateway"], _CLASSES["FromSubscriber"]
_StringColumn = _CLASSES["StringColumn"]


def encode_hello(identity: Identity) -> bytes:
    """The first message of a subscriber with this identity."""
    hello = {
        "protocol": PROTOCOL,
        "topic": identity.topic,
        "name": identity.name,
        "replica": identity.replica,
        "version": identity.version,
        "numbers": identity.schema.numbers,
        "strings": identity.schema.strings,
        "credit": max(0, identity.credit),
        "archive": identity.archive,
    }
    return _bytes(_FromSubscriber(hello=hello))


def encode_welcome(gateway: str) -> bytes:
    """The hub's answer to a subscriber that it takes."""
    return _bytes(_FromGateway(welcome={"protocol": PROTOCOL, "gateway": gateway}))


def encode_announce(version: str) -> bytes:
    """What tells the hub which version is served from now on."""
    return _bytes(_FromSubscriber(announce={"version": version}))


def encode_scores(scores: Scores) -> bytes:
    """One replica's answer."""
    told = _FromSubscriber()
    sent = told.scores
    sent.reply_to, sent.version, sent.ids, sent.values = scores.reply_to, scores.version, scores.ids, scores.values
    sent.width, sent.skipped, sent.queue_s, sent.eval_s = scores.width, scores.skipped, scores.queue_s, scores.eval_s
    return _bytes(told)


def encode_batch(batch: Batch, now: float) -> bytes:
    """A batch, but for how long it has waited since `now`, CLOCK_MONOTONIC: `stamped` says that when it is sent."""
    told = _FromGateway()
    if isinstance(batch, Events):
        events = told.events
        events.topic, events.reply_to, events.ids = batch.topic, batch.reply_to, batch.ids
        events.records.extend(batch.records)
    else:
        sent = told.requests
        sent.topic, sent.reply_to, sent.ids = batch.topic, batch.reply_to, batch.ids
        sent.seconds_left = _moved(batch.deadlines, -now)
        sent.accepted_at, sent.marks, sent.numbers = batch.accepted_at, batch.marks, batch.numbers
        for column in batch.strings:
            added = sent.strings.add()
            added.values.extend([value or "" for value in column])
            if None in column:
                added.missing.extend([at for at, value in enumerate(column) if value is None])
    return b"".join((_bytes(told), _WAITED_TAG, _WAITED.pack(now)))


def stamped(data: bytes, now: float) -> bytes:
    """An encoded batch as it is sent now, so that one encoding serves every name and every wait."""
    at = len(data) - _WAITED.size
    return data[:at] + _WAITED.pack(now - _WAITED.unpack_from(data, at)[0])


def decode_welcome(data: bytes) -> str:
    """The id of the gateway that welcomes us; BusError when it says something else, or speaks another protocol."""
    told = _parsed(_FromGateway, data)
    if told.WhichOneof("message") != "welcome":
        raise BusError("the gateway's first message is no welcome")
    _check_protocol(told.welcome.protocol)
    gateway: str = told.welcome.gateway
    return gateway


def decode_batch(data: bytes, now: float) -> Batch:
    """The batch in a message that has arrived; BusError when it is none, or its lengths do not agree.

    now: CLOCK_MONOTONIC, to which the time that is left is added.
    """
    told = _parsed(_FromGateway, data)
    kind = told.WhichOneof("message")
    if kind == "requests":
        return _requests(told.requests, now - told.waited_s)
    if kind == "events":
        return _events(told.events)
    raise BusError(f"a message of unexpected kind {kind}")


def _requests(sent: Any, now: float) -> Requests:
    ids, numbers = sent.ids, sent.numbers
    n, words = len(ids) // MESSAGE_ID_BYTES, len(ids) // 2
    rows = (sent.seconds_left, sent.accepted_at, sent.marks)
    if n == 0 or len(ids) % MESSAGE_ID_BYTES or len(numbers) % words or any(len(one) != words for one in rows):
        raise BusError(f"requests of {len(ids)} bytes of ids are malformed")
    strings = [_column(one, n) for one in sent.strings]
    left, accepted_at, marks = rows
    return Requests(sent.topic, sent.reply_to, n, ids, _moved(left, now), accepted_at, marks, numbers, strings)


def _column(sent: Any, n: int) -> list[str | None]:
    values: list[str | None] = list(sent.values)
    if len(values) != n or any(at >= n for at in sent.missing):
        raise BusError(f"requests of {n} rows have a string column of another length")
    for at in sent.missing:
        values[at] = None
    return values


def _events(sent: Any) -> Events:
    records = list(sent.records)
    if not records or len(sent.ids) != MESSAGE_ID_BYTES * len(records):
        raise BusError(f"events of {len(sent.ids)} bytes of ids have {len(records)} records")
    return Events(sent.topic, sent.reply_to, sent.ids, records)


def decode_hello(data: bytes) -> Identity:
    """The identity in a subscriber's first message; BusError when it is no hello, or of another protocol."""
    told = _parsed(_FromSubscriber, data)
    if told.WhichOneof("message") != "hello":
        raise BusError("the first message must be a hello")
    hello = told.hello
    _check_protocol(hello.protocol)
    return Identity(
        topic=hello.topic,
        name=hello.name,
        replica=hello.replica,
        version=hello.version,
        schema=RowSchema(tuple(hello.numbers), tuple(hello.strings)),
        credit=hello.credit,
        archive=hello.archive,
    )


def decode_answer(data: bytes) -> Scores | str:
    """The scores in a subscriber's message, or the version that it announces; BusError when it is malformed."""
    told = _parsed(_FromSubscriber, data)
    kind = told.WhichOneof("message")
    if kind == "announce":
        version: str = told.announce.version
        return version
    if kind != "scores":
        raise BusError(f"a message of unexpected kind {kind}")
    sent = told.scores
    ids, values, width = sent.ids, sent.values, sent.width
    if len(ids) % MESSAGE_ID_BYTES or len(values) * MESSAGE_ID_BYTES != 8 * width * len(ids):
        raise BusError(f"scores of {len(ids)} bytes of ids have {len(values)} bytes of values where width is {width}")
    return Scores(sent.reply_to, sent.version, ids, values, width, sent.skipped, sent.queue_s, sent.eval_s)


def _check_protocol(spoken: int) -> None:
    if spoken != PROTOCOL:
        raise BusError(f"protocol {spoken} is not ours ({PROTOCOL})", "both ends must run the same version of rdv")


def _moved(times: bytes, by: float) -> bytes:
    return array("d", [one + by for one in memoryview(times).cast("d")]).tobytes()


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise BusError(f"malformed message: {error}") from None


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
