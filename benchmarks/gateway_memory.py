"""Whether the gateway's memory grows with the number of requests that it has answered."""

from __future__ import annotations

import time
from typing import Any

from closed import closed_loop
from closed_loop import verify
from figures import median
from idle import IdleTimer
from processes import command_line, descendants, resident_mb
from servers import Server, ours, wait_until

SLICE_S = 2.0
SETTLE_S = 3.0


def gateway_pid(server: Server) -> int:
    """The gateway's process below `rdv serve`."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [pid for pid in descendants(server.pid) if "gateway" in command_line(pid)]
        return bool(found)

    wait_until(there, "the gateway's process", 5.0)
    return found[0]


def _until(server: Server, seen: int, wanted: int) -> int:
    """Send requests until at least so many were answered; how many that were."""
    while seen < wanted:
        seen += closed_loop(server.port, server.path, server.bodies, 32, SLICE_S).requests
    return seen


def _settled_mb(pid: int) -> float:
    """Memory once what was in flight is done with: the middle of five looks."""
    time.sleep(SETTLE_S)
    looks = []
    for _ in range(5):
        looks.append(resident_mb(pid))
        time.sleep(0.2)
    return median(looks)


def measure(short: bool) -> list[dict[str, Any]]:
    """Resident memory after a million requests against after 100,000 (short: 200,000 against 50,000)."""
    early, late = (50_000, 200_000) if short else (100_000, 1_000_000)
    with ours() as (project, server), IdleTimer() as timer:
        verify(project, server)
        pid = gateway_pid(server)
        first = _until(server, 0, early)
        first_mb = _settled_mb(pid)
        last = _until(server, first, late)
        last_mb = _settled_mb(pid)
        verify(project, server)
    return [
        {
            "figure": "gateway-memory-growth",
            "ours": last_mb,
            "peer": first_mb,
            "unit": "MB",
            "timer_ms": timer.worst_ms,
            "detail": {**timer.seen(), "requests": [first, last]},
        }
    ]
