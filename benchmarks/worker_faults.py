"""A champion's worker that is killed, or stopped, under 300 requests a second: who waits longer than the budget?"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from answers import Tally, check
from closed_loop import verify
from figures import summary
from idle import IdleTimer
from load import Load
from processes import command_line, descendants
from project import BUDGET_MS, CHAMPION, DEFAULT, BenchProject
from servers import Server, ours, wait_until

RATE = 300.0
GRACE_MS = 20.0
# Enough for a replacement to load, probe, warm and join; a stopped one is woken after STOPPED_S if nobody replaced it.
EVERY_S = 8.0
STOPPED_S = 3.0
FAULTS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def worker_pid(server: Server, model: str) -> int:
    """The process that scores for a model; waits for it to be there."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [pid for pid in descendants(server.pid) if {"worker", model} <= set(command_line(pid))]
        return bool(found)

    wait_until(there, f"a worker of {model}", 20.0)
    return found[0]


def wake(pid: int) -> None:
    """Let a stopped process run on; gone is fine."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def _break(project: BenchProject, server: Server, fault: str, times: int) -> dict[str, Any]:
    """What became of every request of a run in which the champion's worker meets a fault some times."""
    with IdleTimer() as timer:
        load = Load(server.port, server.path, server.bodies, RATE, times * EVERY_S + 1.0)
        for at in range(times):
            time.sleep(max(0.0, load.start_s + 1.0 + at * EVERY_S - time.monotonic()))
            pid = worker_pid(server, CHAMPION)
            os.kill(pid, FAULTS[fault])
            if fault == "stop":
                time.sleep(STOPPED_S)
                wake(pid)
        sent = load.wait()
    tally: Tally = check(sent, project.expected, DEFAULT, lossy=True)
    if tally.defaults + sum(n for name, n in tally.versions.items() if not name.startswith(CHAMPION)) == 0:
        raise RuntimeError(f"the fault left no trace, so it was none: {tally}")
    late = [one for one in sent if one.waited_ms > BUDGET_MS + GRACE_MS or one.status != 200]
    return {
        "figure": f"{fault}-missing",
        "ours": float(len(late)),
        "unit": "requests",
        "timer_ms": timer.worst_ms,
        "detail": {
            **timer.seen(),
            **summary([one.waited_ms for one in sent]),
            "tally": tally,
            "late": [(one.due_s - load.start_s, one.waited_ms, one.status) for one in late[:50]],
        },
    }


def measure(short: bool) -> list[dict[str, Any]]:
    """Requests that had no answer within the budget and 20 ms, over 5 (short: 1) faults of each kind."""
    with ours() as (project, server):
        verify(project, server)
        return [_break(project, server, fault, times=1 if short else 5) for fault in FAULTS]
