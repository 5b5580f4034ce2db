"""The bus's messages in the published encoding: what comes back, what is refused, and that bus.proto says the same."""

import importlib.resources
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import BusError
from rdv.inputs import RowSchema
from rdv.serving.bus import proto
from rdv.serving.bus.port import NO_DEADLINE, Events, Identity, Requests, Scores

KINDS = descriptor_pb2.FieldDescriptorProto.Type
NUMBERS = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def compiled(folder: Path) -> descriptor_pb2.FileDescriptorProto:
    """bus.proto as the compiler of others understands it."""
    source = importlib.resources.files("rdv.serving.bus") / "bus.proto"
    (folder / "bus.proto").write_text(source.read_text())
    argv = ["-m", "grpc_tools.protoc", f"-I{folder}", f"--descriptor_set_out={folder}/out", "bus.proto"]
    subprocess.run([sys.executable, *argv], check=True, timeout=60)
    found = descriptor_pb2.FileDescriptorSet.FromString((folder / "out").read_bytes())
    return found.file[0]


def kind(field: Any) -> str:
    """A field's type as the twin writes it down."""
    repeated = "*" if field.label == field.LABEL_REPEATED else ""
    told = KINDS.Name(field.type).removeprefix("TYPE_").lower()
    if told == "message":
        chosen = "|" if field.HasField("oneof_index") else ""
        return field.type_name.rpartition(".")[2] + repeated + chosen
    if repeated and told in {"double", "fixed64"}:
        return proto.PACKED
    return told + repeated


def test_published_file_and_twin_say_the_same(tmp_path: Path) -> None:
    """Every message, field, number and type of bus.proto is in the twin that we read and write with, and no other."""
    file = compiled(tmp_path)
    found = {
        message.name: tuple((field.number, field.name, kind(field)) for field in message.field)
        for message in file.message_type
    }
    assert found == {name: tuple(fields) for name, fields in proto.MESSAGES.items()}
    (service,) = file.service
    (method,) = service.method
    assert f"/{file.package}.{service.name}/{method.name}" == proto.METHOD
    assert (method.client_streaming, method.server_streaming) == (True, True)


def requests(rows: list[tuple[bytes, float, float, int, float, str | None]]) -> Requests:
    n = len(rows)
    ids, deadlines, accepted, marks, numbers, strings = zip(*rows, strict=True)
    return Requests(
        "visit",
        "gw-1",
        n,
        b"".join(ids),
        struct.pack(f"<{n}d", *deadlines),
        struct.pack(f"<{n}d", *accepted),
        struct.pack(f"<{n}Q", *marks),
        struct.pack(f"<{n}d", *numbers),
        [list(strings)],
    )


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=16, max_size=16), st.just(NO_DEADLINE), NUMBERS, st.integers(0, 2**64 - 1), st.floats(),
            st.none() | texts,
        ),
        min_size=1,
        max_size=5,
    )
)  # fmt: skip
def test_requests_come_back(rows: list[tuple[bytes, float, float, int, float, str | None]]) -> None:
    """A batch is read as it was written, bit by bit, missing strings told apart from empty ones."""
    batch = requests(rows)
    assert proto.decode_batch(proto.stamped(proto.encode_batch(batch, 5.0), 7.0), 100.0) == batch


@pytest.mark.parametrize("waited_s", [0.0, 0.5])
def test_deadlines_cross_as_time_left(waited_s: float) -> None:
    """Hosts' clocks do not compare: a deadline arrives as the receiver's clock plus the time left then."""
    batch = requests([(bytes(16), 12.0, 0.0, 0, 1.0, None)])
    sent = proto.stamped(proto.encode_batch(batch, 10.0), 10.0 + waited_s)
    received = proto.decode_batch(sent, 5000.0)
    assert isinstance(received, Requests)
    assert struct.unpack("<d", received.deadlines)[0] == 5002.0 - waited_s


def test_one_encoding_is_stamped_again_and_again() -> None:
    """Each sending of a batch says how long that one has waited."""
    data = proto.encode_batch(requests([(bytes(16), 12.0, 0.0, 0, 1.0, None)]), 10.0)
    for waited_s in (0.25, 0.75):
        received = proto.decode_batch(proto.stamped(data, 10.0 + waited_s), 0.0)
        assert isinstance(received, Requests)
        assert struct.unpack("<d", received.deadlines)[0] == 2.0 - waited_s


def test_other_messages_come_back() -> None:
    """Events, scores, hello, welcome and announcements are read as they were written."""
    events = Events("visit/events", "gw-1", bytes(32), [b"", b"\x00\xff"])
    assert proto.decode_batch(proto.stamped(proto.encode_batch(events, 1.0), 2.0), 3.0) == events
    values = struct.pack("<4d", 0.1, math.nan, -0.0, math.inf)
    scores = Scores("gw-1", "v1", bytes(32), values, 2, 3, 0.25, 0.5)
    assert proto.decode_answer(proto.encode_scores(scores)) == scores
    assert proto.decode_answer(proto.encode_announce("v2")) == "v2"
    assert proto.decode_welcome(proto.encode_welcome("gw-1")) == "gw-1"
    me = Identity("visit", "decoy", "r1", "", RowSchema(("a",), ("b",)), 8, True)
    assert proto.decode_hello(proto.encode_hello(me)) == me


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever arrives is a message or a BusError, never another error."""
    for decode in (
        proto.decode_hello,
        proto.decode_answer,
        proto.decode_welcome,
        lambda it: proto.decode_batch(it, 0.0),
    ):
        try:
            decode(data)
        except BusError:
            continue


@pytest.mark.parametrize("cut", ["ids", "seconds_left", "accepted_at", "marks", "numbers"])
def test_lengths_must_agree(cut: str) -> None:
    """A batch whose columns are not of one length is refused."""
    batch = requests([(bytes(16), 12.0, 0.0, 0, 1.0, None)] * 2)
    told = proto._FromGateway.FromString(proto.encode_batch(batch, 0.0))
    setattr(told.requests, cut, getattr(told.requests, cut)[:-3])
    with pytest.raises(BusError, match="malformed"):
        proto.decode_batch(told.SerializeToString(), 0.0)


@pytest.mark.parametrize("missing", [[2], [7]])
def test_missing_rows_are_rows(missing: list[int]) -> None:
    """A column that misses a value in a row that there is not, or has too few values, is refused."""
    told = proto._FromGateway.FromString(proto.encode_batch(requests([(bytes(16), 0.0, 0.0, 0, 1.0, "x")] * 2), 0.0))
    told.requests.strings[0].missing.extend(missing)
    with pytest.raises(BusError, match="another length"):
        proto.decode_batch(told.SerializeToString(), 0.0)
