"""Log lines of a process: JSON on stderr, one object a line, bounded in rate and size, never in the way.

Whatever a message holds (ANSI sequences, line breaks, control characters) arrives as escaped text. A thread writes,
so a reader of stderr that has stopped never stops the process: lines beyond a bounded queue are counted, not kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

BURST = 10
PER_S = 1.0
LINES_PER_S = 50.0
MESSAGE_CHARACTERS = 2000
TRACE_CHARACTERS = 8000
_KINDS = 256
_QUEUE = 1000
_CLOSE_S = 1.0


class Bucket:
    """A token bucket: `burst` at once, then `per_s` a second; counts what it turned away since it last let one pass."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens", "turned_away")

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._per_s, self._tokens, self._at = burst, per_s, burst, now
        self.turned_away = 0

    def take(self, now: float) -> bool:
        """Whether one may pass now; `now` in seconds, never decreasing."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1.0:
            self.turned_away += 1
            return False
        self._tokens -= 1.0
        return True


class RateLimit(logging.Filter):
    """Lets few lines of a kind pass (a logger, a level and a message before its values are filled in).

    The first line that passes after others did not carries their number as `suppressed`.
    """

    def __init__(self) -> None:
        super().__init__()
        now = time.monotonic()
        self._kinds: OrderedDict[tuple[str, int, str], Bucket] = OrderedDict()
        self._all = Bucket(LINES_PER_S * 2, LINES_PER_S, now)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line passes."""
        now = time.monotonic()
        kind = (record.name, record.levelno, str(record.msg)[:200])
        bucket = self._kinds.get(kind)
        if bucket is None:
            bucket = self._kinds[kind] = Bucket(BURST, PER_S, now)
            if len(self._kinds) > _KINDS:
                self._kinds.popitem(last=False)
        self._kinds.move_to_end(kind)
        if not bucket.take(now) or not self._all.take(now):
            return False
        record.suppressed, bucket.turned_away = bucket.turned_away, 0
        return True


class JsonLines(logging.Formatter):
    """One line of ASCII JSON: at, level, role, pid, logger, message; suppressed, error and trace when there are."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, without its end."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "role": self._role,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage()[:MESSAGE_CHARACTERS],
        }
        if suppressed := getattr(record, "suppressed", 0):
            line["suppressed"] = suppressed
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["trace"] = "".join(traceback.format_exception(record.exc_info[1]))[-TRACE_CHARACTERS:]
        return json.dumps(line)


class _Background(logging.Handler):
    """Formats in the caller's thread and writes in its own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(self.format(record))

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError):  # the reader has gone, or the stream is closed
                self._stream.write(line + "\n")
                self._stream.flush()

    def end(self) -> None:
        """Write what is queued, as far as that takes a second."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_CLOSE_S)
        self._thread.join(_CLOSE_S)


@contextlib.contextmanager
def json_logs(role: str, level: str = "INFO", stream: TextIO | None = None) -> Iterator[None]:
    """Everything that is logged within the block goes to `stream` (default: stderr) as JSON lines of this role."""
    handler = _Background(stream or sys.stderr)
    handler.setFormatter(JsonLines(role))
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    before, threshold = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(level)
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(threshold)
        handler.end()
