"""Run records that everybody of an environment can see: where the registry is a server, each run is kept in it as well.

Key `runs/<run>`, bounded: the newest 200 of a model, texts cut to a length, never a secret. The run's own process
writes it, and writes it anew every 20 s while it lives; whoever asks for its end writes that into it. One that has
been silent for three minutes, or whose job is gone, is lost: whoever sees that first writes it down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, sleep

import msgspec
from msgspec.structs import replace

from rdv.backends.ports import Registry
from rdv.clock import Clock, SystemClock
from rdv.errors import LostRace, NotAuthorised, RdvError
from rdv.pipelines.runs.records import OPEN, RunRecord, is_run

KEY = "runs"
KEPT = 200
BEAT_S = 20.0
SILENT_S = 180.0
LAST_WORD_S = 10.0
"""How long an ended run tries to say so, when the registry does not answer."""
_TEXT, _ITEMS = 2000, 40
_PAUSE_S = 1.0
_TRIES = 50


class SharedRuns:
    """The run records in a registry."""

    def __init__(self, registry: Registry, clock: Clock | None = None) -> None:
        self.registry = registry
        self._clock: Clock = clock or SystemClock()

    def put(self, record: RunRecord) -> int:
        """Write a record as its own run knows it, whatever stood there; its new index. A wish for its end is kept."""
        for _ in range(_TRIES):
            entry = self.registry.get(_key(record.run))
            old = _decode(entry.value) if entry else None
            new = replace(_short(record), seen=self.now(), cancel=(old.cancel if old else "") or record.cancel)
            with suppress(LostRace):
                return self.registry.put(_key(record.run), _encode(new), entry.index if entry else 0).index
        raise LostRace(f"the record of run {record.run} is changed by somebody else all the time", "try again")

    def create(self, record: RunRecord) -> None:
        """Write a record unless the run has one."""
        with suppress(LostRace):
            self.registry.put(_key(record.run), _encode(replace(_short(record), seen=self.now())), expect=0)

    def get(self, run: str) -> tuple[RunRecord | None, int]:
        """A run's record, None when there is none (that can be read), and its index."""
        entry = self.registry.get(_key(run)) if is_run(run) else None
        return (_decode(entry.value), entry.index) if entry else (None, 0)

    def all(self) -> list[RunRecord]:
        """All records, newest first."""
        found = [_decode(entry.value) for entry in self.registry.list(f"{KEY}/").values()]
        return sorted((one for one in found if one is not None), key=lambda one: one.run, reverse=True)

    def change(self, run: str, change: Callable[[RunRecord], RunRecord]) -> RunRecord | None:
        """Change a record, and only one that is there; the new one."""
        for _ in range(_TRIES):
            entry = self.registry.get(_key(run))
            old = _decode(entry.value) if entry else None
            if entry is None or old is None:
                return None
            new = change(old)
            with suppress(LostRace):
                if new != old:
                    self.registry.put(_key(run), _encode(new), entry.index)
                return new
        raise LostRace(f"the record of run {run} is changed by somebody else all the time", "try again")

    def wait(self, run: str, index: int, wait_s: float) -> None:
        """Return as soon as a record's index differs, at the latest after wait_s."""
        self.registry.watch(_key(run), index, wait_s)

    def forget_old(self, model: str) -> None:
        """Drop the oldest records of a model above the number that is kept."""
        for record in [one for one in self.all() if one.model == model and one.state not in OPEN][KEPT:]:
            self.registry.delete(_key(record.run))

    def is_silent(self, record: RunRecord) -> bool:
        """Whether a run that has not ended has said nothing for so long that it is gone, or a job that waits."""
        if record.state not in OPEN:
            return False
        with suppress(ValueError):
            age = self._clock.now() - datetime.fromisoformat(record.seen).timestamp()
            return age > SILENT_S
        return True

    def is_alive(self, run: str) -> bool:
        """Whether a run is known, has not ended and is not silent."""
        record = self.get(run)[0]
        return record is not None and record.state in OPEN and not self.is_silent(record)

    def now(self) -> str:
        """The clock's time, UTC."""
        return datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="milliseconds")


class Pulse:
    """Keeps the shared record of a run of this process fresh, and tells when somebody asks for the run's end.

    A registry that does not answer is tried again, and disturbs the run in no way.
    """

    def __init__(self, shared: SharedRuns, record: RunRecord, on_cancel: Callable[[str], None]) -> None:
        self._shared, self._record, self._on_cancel = shared, record, on_cancel
        self._guard, self._closed = threading.Lock(), threading.Event()
        shared.put(record)
        shared.forget_old(record.model)
        self._thread = threading.Thread(target=self._beat, name=f"rdv-pulse-{record.run}", daemon=True)
        self._thread.start()

    def tell(self, record: RunRecord) -> None:
        """Take over a newer record, and write it when the registry answers."""
        with self._guard:
            self._record = record
        with suppress(RdvError):
            self._write()

    def close(self, record: RunRecord) -> bool:
        """Write the last word; whether that could be done in time."""
        with self._guard:
            self._record = record
            self._closed.set()
        until = monotonic() + LAST_WORD_S
        while True:
            try:
                self._write()
                return True
            except RdvError as error:
                if isinstance(error, NotAuthorised) or monotonic() > until:
                    return False
                sleep(_PAUSE_S)

    def _write(self) -> None:
        with self._guard:
            self._shared.put(self._record)

    def _beat(self) -> None:
        asked = False
        while not self._closed.is_set():
            try:
                found, index = self._shared.get(self._record.run)
                if found is not None and found.cancel and not asked:
                    asked = True
                    self._on_cancel(found.cancel)
                self._shared.wait(self._record.run, index, BEAT_S)
                if self._shared.get(self._record.run)[1] == index:
                    self._write_unless_closed()
            except RdvError:
                self._closed.wait(_PAUSE_S)

    def _write_unless_closed(self) -> None:
        with self._guard:
            if not self._closed.is_set():
                self._shared.put(self._record)


def _key(run: str) -> str:
    return f"{KEY}/{run}"


def _encode(record: RunRecord) -> bytes:
    return msgspec.json.encode(record, order="sorted")


def _decode(value: bytes) -> RunRecord | None:
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(value, type=RunRecord)
    return None


def _short(record: RunRecord) -> RunRecord:
    """The record within its bounds."""
    return replace(
        record,
        arguments={name: text[:_TEXT] for name, text in record.arguments.items()},
        best=record.best[:_TEXT],
        error=record.error[:_TEXT],
        reasons=tuple(text[:_TEXT] for text in record.reasons[:_ITEMS]),
        metrics=dict(list(record.metrics.items())[:_ITEMS]),
    )
