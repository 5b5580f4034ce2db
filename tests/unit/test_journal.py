"""The journal keeps whole records, within its size, whatever ends its writer."""

import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import CorruptArtifact, UsageError
from rdv.inputs import RowSchema
from rdv.serving.bus.port import Events, Requests
from rdv.serving.recording.journal import MAGIC, JournalWriter, Segment, read_journal, segments

SCHEMA = RowSchema(("age", "visits"), ("plan",))


def batch_of(first: int, rows: int = 1) -> Requests:
    """Some rows whose ids count up from `first`."""
    words = struct.pack(f"<{rows}d", *range(rows))
    ids = b"".join((first + row).to_bytes(16, "big") for row in range(rows))
    return Requests("visit", "g1", rows, ids, words, words, words, words * 2, [["basic"] * rows])


def ids_in(folder: Path) -> list[int]:
    """The ids in a journal, in order."""
    found: list[int] = []
    for _, batch in read_journal(folder):
        found += [int.from_bytes(batch.ids[at : at + 16], "big") for at in range(0, len(batch.ids), 16)]
    return found


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    """A journal with small segments."""
    made = JournalWriter(tmp_path / "visit", "visit", SCHEMA, segment_bytes=2000, total_bytes=10_000)
    yield made
    made.close()


def test_what_was_appended_is_read_back(writer: JournalWriter) -> None:
    """Batches come back as they were, in order, with the schema they belong to."""
    batches = [batch_of(1), batch_of(2, 5)]
    assert all(writer.append(batch) for batch in batches)
    found = list(read_journal(writer.folder))
    assert [batch for _, batch in found] == batches
    assert {header.schema() for header, _ in found} == {SCHEMA}
    assert writer.counts.written == 6


def test_events_are_kept_as_well(tmp_path: Path) -> None:
    """A journal of events gives back each record."""
    writer = JournalWriter(tmp_path, "visit/events", RowSchema())
    events = Events("visit/events", "g1", bytes(32), [b"one", b"two"])
    assert writer.append(events)
    writer.close()
    assert [batch for _, batch in read_journal(tmp_path)] == [events]


def test_segments_rotate_and_the_oldest_go(writer: JournalWriter) -> None:
    """A journal stays within its total size by dropping whole oldest segments, and counts what it dropped."""
    for first in range(300):
        assert writer.append(batch_of(first))
    sizes = [path.stat().st_size for path in segments(writer.folder)]
    assert len(sizes) > 2
    assert max(sizes) <= 2000
    assert sum(sizes) <= 10_000
    kept = ids_in(writer.folder)
    assert kept == list(range(kept[0], 300))
    newest = Segment(segments(writer.folder)[-1]).header
    assert newest.dropped_segments == writer.counts.dropped_segments > 0
    assert newest.dropped_bytes == writer.counts.dropped_bytes


def test_a_new_writer_continues_numbers_and_counts(writer: JournalWriter, tmp_path: Path) -> None:
    """After a restart segments follow in order and the count of what was dropped goes on."""
    for first in range(150):
        writer.append(batch_of(first))
    writer.close()
    gone = writer.counts.dropped_segments
    again = JournalWriter(tmp_path / "visit", "visit", SCHEMA, segment_bytes=2000, total_bytes=10_000)
    again.append(batch_of(150))
    assert ids_in(again.folder)[-2:] == [149, 150]
    assert Segment(segments(again.folder)[-1]).header.dropped_segments >= gone > 0
    again.close()


@given(st.data())
def test_a_torn_tail_costs_only_the_torn_record(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut anywhere, a segment gives back exactly the records before the cut, and nothing follows them."""
    folder = tmp_path_factory.mktemp("torn")
    writer = JournalWriter(folder, "visit", SCHEMA)
    ends = []
    for first in range(4):
        writer.append(batch_of(first))
        ends.append(segments(folder)[0].stat().st_size)
    writer.close()
    path = segments(folder)[0]
    cut = data.draw(st.integers(0, ends[-1]))
    path.write_bytes(path.read_bytes()[:cut])
    whole = [first for first, end in enumerate(ends) if end <= cut]
    assert ids_in(folder) == whole
    again = JournalWriter(folder, "visit", SCHEMA)
    again.append(batch_of(9))
    again.close()
    assert ids_in(folder) == [*whole, 9]


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_never_read_as_a_record(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    """Whatever byte is damaged, only records that are exactly as written are read."""
    folder = tmp_path_factory.mktemp("flip")
    writer = JournalWriter(folder, "visit", SCHEMA)
    batches = [batch_of(first) for first in range(3)]
    for batch in batches:
        writer.append(batch)
    writer.close()
    path = segments(folder)[0]
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= flip
    path.write_bytes(content)
    found = [batch for _, batch in read_journal(folder)]
    assert found == batches[: len(found)]


def test_a_torn_tail_is_told(writer: JournalWriter) -> None:
    """A reader says how many bytes at the end it could not use."""
    writer.append(batch_of(1))
    path = segments(writer.folder)[0]
    with path.open("ab") as file:
        file.write(b"12345")
    segment = Segment(path)
    assert len(list(segment)) == 1
    assert segment.torn_bytes == 5


def test_other_files_are_refused_as_segments(tmp_path: Path) -> None:
    """A file that is no segment of ours ends in one named error."""
    for content in (b"", b"hello world", MAGIC, MAGIC + b"x" * 40):
        file = tmp_path / "000000000001.seg"
        file.write_bytes(content)
        with pytest.raises(CorruptArtifact, match="000000000001.seg"):
            Segment(file)


def test_one_writer_a_folder(writer: JournalWriter) -> None:
    """A second writer is refused while the first one lives, so that nothing is interleaved."""
    with pytest.raises(UsageError, match="another process"):
        JournalWriter(writer.folder, "visit", SCHEMA)


def test_a_full_disk_is_counted_and_survived(writer: JournalWriter) -> None:
    """What the disk does not take leaves no torn record and is counted; writing goes on once there is room."""
    writer.append(batch_of(1))
    size = segments(writer.folder)[0].stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        assert not writer.append(batch_of(2, 3))
        assert segments(writer.folder)[0].stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert writer.append(batch_of(5))
    assert ids_in(writer.folder) == [1, 5]
    assert (writer.counts.written, writer.counts.refused) == (2, 3)
    assert writer.counts.last_error


def test_no_room_for_a_new_segment_leaves_none(writer: JournalWriter) -> None:
    """When not even a segment's head fits on the disk, no segment stays behind and the next try starts afresh."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
        assert not writer.append(batch_of(1))
        assert segments(writer.folder) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert writer.append(batch_of(2))
    assert ids_in(writer.folder) == [2]


def test_records_outlive_a_killed_writer(tmp_path: Path) -> None:
    """What append has returned for is there after a kill -9, without any sync."""
    program = (
        "import sys, time; from pathlib import Path; from rdv.serving.recording.journal import JournalWriter\n"
        "from rdv.serving.bus.port import Events; from rdv.inputs import RowSchema\n"
        "w = JournalWriter(Path(sys.argv[1]), 'visit', RowSchema())\n"
        "for n in range(100): w.append(Events('visit', 'g', n.to_bytes(16, 'big'), [b'x']))\n"
        "print('done', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"done\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert ids_in(tmp_path) == list(range(100))


def test_sync_covers_closed_segments(writer: JournalWriter) -> None:
    """Syncing leaves no descriptor of a retired segment open."""
    for first in range(60):
        writer.append(batch_of(first))
    writer.sync()
    assert not writer._to_close
