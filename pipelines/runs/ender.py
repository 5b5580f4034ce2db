"""The end of a run that somebody asks for: by a signal to its process, or by a call from one of its threads."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Ender:
    """Ends a run that listens: SIGTERM does what Ctrl-C does where signals can be had, and so does `end`.

    by: who called `end`. stop: what makes a run end that has no signals.
    """

    def __init__(self) -> None:
        self.by = ""
        self.stop: Callable[[], None] = lambda: None
        self._guard, self._listening = threading.Lock(), False
        self._main = threading.current_thread() is threading.main_thread()

    def end(self, by: str) -> None:
        """End the run, if it goes on; from any thread."""
        with self._guard:
            if not self._listening:
                return
            self.by = by
            if self._main:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        if not self._main:
            self.stop()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Be ended while this lasts."""

        def interrupt(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, interrupt) if self._main else None
        self._listening = True
        try:
            yield
        finally:
            with self._guard:
                self._listening = False
            if self._main:
                signal.signal(signal.SIGTERM, before)
