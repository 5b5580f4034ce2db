"""How late an idle 1 ms timer fires on this machine, now: the noise that no server of ours makes.

Run as a program it sleeps from one millisecond of CLOCK_MONOTONIC to the next until its standard input closes, then
prints its worst and its 99.9th percentile lateness as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from types import TracebackType

TICK_S = 0.001


def watch(stop: threading.Event) -> list[float]:
    """The lateness of every tick in milliseconds until told to stop, at least one."""
    late_ms = []
    due = time.monotonic() + TICK_S
    while not (late_ms and stop.is_set()):
        time.sleep(max(0.0, due - time.monotonic()))
        now = time.monotonic()
        late_ms.append((now - due) * 1000.0)
        due = max(due + TICK_S, now)
    return late_ms


class IdleTimer:
    """`with IdleTimer() as timer: ...` leaves the worst lateness of that time in `timer.worst_ms`."""

    def __init__(self) -> None:
        self.worst_ms = 0.0
        self.p999_ms = 0.0

    def __enter__(self) -> IdleTimer:
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        out, _ = self._process.communicate(timeout=30)
        seen = json.loads(out)
        self.worst_ms, self.p999_ms = seen["worst_ms"], seen["p999_ms"]

    def seen(self) -> dict[str, float]:
        """Both, for a figure's detail."""
        return {"timer_worst_ms": self.worst_ms, "timer_p999_ms": self.p999_ms}


def main() -> None:
    """Watch until standard input ends, then print what was seen."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    print("watching", flush=True)
    late_ms = sorted(watch(stop))
    print(json.dumps({"worst_ms": late_ms[-1], "p999_ms": late_ms[int(0.999 * (len(late_ms) - 1))]}))


if __name__ == "__main__":
    main()
