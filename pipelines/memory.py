"""Right-sized memory: what steps have needed before, and so the smallest resource class that will do."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from rdv.backends.ports import Registry
from rdv.errors import LostRace
from rdv.pipelines.names import segment

HEADROOM = 1.25
KEPT_RUNS = 10
_TRIES = 5


class History(msgspec.Struct, frozen=True):
    """The peak memory of the last runs' steps of one kind, in bytes, oldest first; a step that ran out counts as

    what it was given, so that headroom lifts the next one above it.
    """

    peaks_bytes: tuple[int, ...] = ()


def choose_class(peaks_bytes: Sequence[int], classes_mb: Sequence[int]) -> int:
    """The smallest class in MB that holds the highest known peak and a quarter more; the largest when none does."""
    need = max(peaks_bytes, default=0) * HEADROOM
    return next((size for size in sorted(classes_mb) if size << 20 >= need), max(classes_mb))


def next_class(memory_mb: int, classes_mb: Sequence[int]) -> int | None:
    """The class above one, None above the largest."""
    return next((size for size in sorted(classes_mb) if size > memory_mb), None)


def with_peak(history: History, peak_bytes: int) -> History:
    """The history after one run more, the oldest forgotten."""
    return History((*history.peaks_bytes, peak_bytes)[-KEPT_RUNS:])


class Peaks:
    """What the steps of this run needed, by kind of step; read once from the registry, written once at the end.

    Any thread may call it.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry, self._guard = registry, threading.Lock()
        self._before: dict[str, History] = {}
        self._seen: dict[str, int] = {}

    def choose(self, kind: str, classes_mb: Sequence[int]) -> int:
        """The class in MB for a step of a kind, from earlier runs and from this one."""
        with self._guard:
            if kind not in self._before:
                self._before[kind] = self._read(kind)[0]
            return choose_class((*self._before[kind].peaks_bytes, self._seen.get(kind, 0)), classes_mb)

    def note(self, kind: str, peak_bytes: int) -> None:
        """Remember what a step needed."""
        with self._guard:
            self._seen[kind] = max(peak_bytes, self._seen.get(kind, 0))

    def save(self) -> None:
        """Write what was seen; where somebody else writes at the same moment all the time, theirs stands."""
        with self._guard:
            seen, self._seen = self._seen, {}
        for kind, peak in seen.items():
            if peak:
                self._add(kind, peak)

    def _add(self, kind: str, peak: int) -> None:
        for _ in range(_TRIES):
            history, index = self._read(kind)
            with suppress(LostRace):
                self._registry.put(history_key(kind), msgspec.json.encode(with_peak(history, peak)), expect=index)
                return

    def _read(self, kind: str) -> tuple[History, int]:
        entry = self._registry.get(history_key(kind))
        if entry is None:
            return History(), 0
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(entry.value, type=History), entry.index
        return History(), entry.index


def history_key(kind: str) -> str:
    """The registry key of a kind of step, which is `family/scope`."""
    return "history/" + "/".join(segment(part) for part in kind.split("/"))
