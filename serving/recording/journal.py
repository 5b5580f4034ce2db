"""The journal: what every model of a topic was asked, in segments on disk that survive whoever wrote them.

A segment is `MAGIC`, then records: payload length and CRC-32 (4 bytes each, little-endian), kind (1 byte), payload.
The first record says whose segment it is; each other one is a batch in the bus's own binary form. A record is
there whole or not at all for a reader: it stops at the first one that is torn. A writer never appends to a segment
that it did not open itself, so nothing can follow a torn record.

Durability: a record has left the process when `append` returns, so it survives a kill -9 of the writer; `sync`,
called about once a second, makes it survive the machine.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import msgspec

from rdv.errors import BusError, CorruptArtifact, UsageError
from rdv.files import sync_folder
from rdv.inputs import RowSchema
from rdv.serving.bus import codec
from rdv.serving.bus.port import Batch

MAGIC = b"rdvjrnl1"
RECORD = struct.Struct("<IIB")
SUFFIX = ".seg"
_HEADER_KIND = 0
_FOLDER_MODE = 0o700  # requests are personal data
_FILE_MODE = 0o600


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Whose segment it is. created: epoch seconds. dropped_*: of this journal's oldest segments, ever, to stay within

    its total size; a reader learns from the newest segment how much is gone.
    """

    protocol: int
    topic: str
    sequence: int
    created: float
    numbers: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    dropped_segments: int = 0
    dropped_bytes: int = 0

    def schema(self) -> RowSchema:
        """The row schema of the segment's requests."""
        return RowSchema(self.numbers, self.strings)


class JournalCounts(msgspec.Struct, kw_only=True):
    """What a writer did since it opened, in rows; `refused` is what the disk did not take."""

    written: int = 0
    refused: int = 0
    bytes_written: int = 0
    dropped_segments: int = 0
    dropped_bytes: int = 0
    last_error: str = ""


class JournalWriter:
    """Appends batches of one topic to a folder's segments. One writer a folder; not for two threads, except `sync`."""

    def __init__(
        self, folder: Path, topic: str, schema: RowSchema, segment_bytes: int = 64 << 20, total_bytes: int = 1 << 30
    ) -> None:
        """segment_bytes: a segment is closed before it grows past this; a larger single record gets one of its own.

        total_bytes: the oldest segments go when all of them together would grow past this; the newest never does.
        UsageError when another process writes here.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        self.folder, self.topic, self.counts = folder, topic, JournalCounts()
        self._schema, self._segment_bytes, self._total_bytes = schema, segment_bytes, total_bytes
        self._lock = _lock(folder)
        self._sizes = {path: path.stat().st_size for path in segments(folder)}
        self._sequence, self._gone = _resume(list(self._sizes))
        self._fd, self._at, self._path = -1, 0, folder
        self._dirty = False
        self._to_close: deque[int] = deque()

    def append(self, batch: Batch) -> bool:
        """Write one batch; False, and counted, when the disk did not take it: then no part of it stays."""
        frame = codec.encode_batch(batch)
        record = _record(frame[codec.HEADER.size - 1], frame[codec.HEADER.size :])
        try:
            if self._fd < 0 or self._at + len(record) > self._segment_bytes:
                self._rotate()
            self._write(record)
        except OSError as error:
            self._refuse(batch.n, error)
            return False
        self.counts.written += batch.n
        self.counts.bytes_written += len(record)
        return True

    def sync(self) -> None:
        """Make everything appended so far survive the machine; may run in another thread than `append`."""
        if self._dirty and self._fd >= 0:
            self._dirty = False
            self._to_close.append(os.dup(self._fd))
        while self._to_close:
            fd = self._to_close.popleft()
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Make everything survive, and let the next writer in; a second time does nothing."""
        if self._lock < 0:
            return
        try:
            self._retire()
            self.sync()
        finally:
            os.close(self._lock)
            self._lock = -1

    def _rotate(self) -> None:
        self._retire()
        self._trim()
        self._sequence += 1
        header = SegmentHeader(
            protocol=codec.PROTOCOL,
            topic=self.topic,
            sequence=self._sequence,
            created=time.time(),
            numbers=self._schema.numbers,
            strings=self._schema.strings,
            dropped_segments=self._gone[0],
            dropped_bytes=self._gone[1],
        )
        self._path = self.folder / f"{self._sequence:012d}{SUFFIX}"
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        self._at = 0
        self._write(MAGIC + _record(_HEADER_KIND, msgspec.msgpack.encode(header)))
        sync_folder(self.folder)

    def _retire(self) -> None:
        if self._fd >= 0:
            self._to_close.append(self._fd)
            self._fd = -1

    def _trim(self) -> None:
        """Let the oldest segments go until a whole new one fits."""
        for path, size in list(self._sizes.items()):
            if sum(self._sizes.values()) + self._segment_bytes <= self._total_bytes:
                return
            path.unlink(missing_ok=True)
            del self._sizes[path]
            self._gone = (self._gone[0] + 1, self._gone[1] + size)
            self.counts.dropped_segments += 1
            self.counts.dropped_bytes += size

    def _write(self, data: bytes) -> None:
        written = 0
        while written < len(data):
            written += os.write(self._fd, data[written:] if written else data)
        self._at += len(data)
        self._sizes[self._path] = self._at
        self._dirty = True

    def _refuse(self, rows: int, error: OSError) -> None:
        self.counts.refused += rows
        self.counts.last_error = error.strerror or str(error)
        if self._fd < 0:
            return
        try:
            os.ftruncate(self._fd, self._at)
            os.lseek(self._fd, self._at, os.SEEK_SET)
        except OSError:
            self._retire()  # what follows goes to a new segment, never behind a torn record
        if self._at == 0:
            self._retire()
            self._sizes.pop(self._path, None)
            self._path.unlink(missing_ok=True)


class Segment:
    """A reader's view of one segment. header: read at once. torn_bytes: what iterating left unread at its end."""

    def __init__(self, path: Path) -> None:
        """CorruptArtifact when the file is no segment, or of another format than ours."""
        self.path, self.torn_bytes = path, 0
        with path.open("rb") as file:
            record = _read_record(file) if file.read(len(MAGIC)) == MAGIC else None
        if record is None or record[0] != _HEADER_KIND:
            raise CorruptArtifact(f"{path} is not a journal segment, or its head is torn", "move it away")
        try:
            self.header = msgspec.msgpack.decode(record[1], type=SegmentHeader)
        except msgspec.MsgspecError as error:
            raise CorruptArtifact(f"the head of journal segment {path} is malformed: {error}", "move it away") from None
        if self.header.protocol != codec.PROTOCOL:
            raise CorruptArtifact(
                f"journal segment {path} has format {self.header.protocol}, ours is {codec.PROTOCOL}",
                "read it with the version of rdv that wrote it",
            )

    def __iter__(self) -> Iterator[Batch]:
        """The segment's batches in order, up to the first torn record."""
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(len(MAGIC))
            _read_record(file)
            while True:
                self.torn_bytes = max(0, size - file.tell())
                record = _read_record(file)
                if record is None:
                    return
                try:
                    yield codec.decode_batch(*record)
                except BusError:
                    return


def segments(folder: Path) -> list[Path]:
    """The segments in a folder, oldest first; none when there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.stem.isdigit())


def read_journal(folder: Path) -> Iterator[tuple[SegmentHeader, Batch]]:
    """All batches in a folder with their segment's header, oldest first; may be read while it is written.

    A segment that disappears meanwhile is left out, as is one whose head is torn (its writer died with it).
    """
    for path in segments(folder):
        try:
            segment = Segment(path)
            for batch in segment:
                yield segment.header, batch
        except (FileNotFoundError, CorruptArtifact):
            continue


def _record(kind: int, payload: bytes) -> bytes:
    return RECORD.pack(len(payload), _checksum(kind, payload), kind) + payload


def _checksum(kind: int, payload: bytes) -> int:
    return crc32(payload, kind)


def _read_record(file: BinaryIO) -> tuple[int, bytes] | None:
    """The next record's kind and payload, None at the end or at a torn record."""
    head = file.read(RECORD.size)
    if len(head) < RECORD.size:
        return None
    length, checksum, kind = RECORD.unpack(head)
    if length > codec.MAX_FRAME_BYTES:
        return None
    payload = file.read(length)
    if len(payload) < length or _checksum(kind, payload) != checksum:
        return None
    return kind, payload


def _resume(paths: list[Path]) -> tuple[int, tuple[int, int]]:
    """The newest segment's sequence number, and (segments, bytes) that were dropped up to then."""
    sequence = int(paths[-1].stem) if paths else 0
    for path in reversed(paths):
        try:
            header = Segment(path).header
        except CorruptArtifact:
            continue
        return sequence, (header.dropped_segments, header.dropped_bytes)
    return sequence, (0, 0)


def _lock(folder: Path) -> int:
    fd = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(f"another process writes the journal in {folder}", "stop it first, see `rdv status`") from None
    return fd

