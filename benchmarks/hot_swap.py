"""A champion that is swapped 20 times while 500 requests a second come in, against the same load without a swap."""

from __future__ import annotations

import time
from typing import Any

from answers import Tally, check
from closed_loop import verify
from figures import median, per_ten_thousand, quantile, summary
from idle import IdleTimer
from load import Load, Sent
from project import CHAMPION, DEFAULT, BenchProject
from servers import Server, ours

from rdv.serving.status import wait_until_served

RATE = 500.0
EVERY_S = 1.5
SERVED_S = 15.0


def _load(server: Server, swaps: int) -> Load:
    return Load(server.port, server.path, server.bodies, RATE, swaps * EVERY_S + 1.0)


def _swap(project: BenchProject, server: Server, swaps: int) -> tuple[list[Sent], list[float]]:
    """All requests of a run with some swaps, and how long each swap took until every worker served it, in seconds."""
    load, took_s = _load(server, swaps), []
    for swap in range(swaps):
        time.sleep(max(0.0, load.start_s + 0.5 + swap * EVERY_S - time.monotonic()))
        version = ("v2", "v1")[swap % 2]
        begun = time.monotonic()
        project.release(CHAMPION, version)
        wait_until_served(project.project, CHAMPION, version, SERVED_S)
        took_s.append(time.monotonic() - begun)
    return load.wait(), took_s


def measure(short: bool) -> list[dict[str, Any]]:
    """Requests lost and answered by default (summed over the runs), p99 with and without swaps (medians)."""
    runs, swaps = (1, 5) if short else (3, 20)
    tallies: list[Tally] = []
    swapped, still, took_s = [], [], []
    with ours() as (project, rdv):
        project.publish(CHAMPION, "v2", seed=4)
        verify(project, rdv)
        with IdleTimer() as timer:
            for _ in range(runs):
                still.append(quantile([one.waited_ms for one in _load(rdv, swaps).wait()], 0.99))
                sent, took = _swap(project, rdv, swaps)
                tallies.append(check(sent, project.expected, DEFAULT, lossy=True))
                swapped.append(summary([one.waited_ms for one in sent]))
                took_s += took
    for tally in tallies:
        if not {f"{CHAMPION} v1", f"{CHAMPION} v2"} <= set(tally.versions):
            raise RuntimeError(f"both versions must have answered: {tally.versions}")
    sent_count = sum(tally.sent for tally in tallies)
    told = {"timer_ms": timer.worst_ms, "unit": "requests"}
    detail = {**timer.seen(), "swap_s": took_s, "swapped": swapped, "still_p99_ms": still, "tallies": tallies}
    return [
        {**told, "figure": "swap-lost", "ours": float(sum(tally.lost + tally.refused for tally in tallies))},
        {
            **told,
            "figure": "swap-defaults",
            "ours": per_ten_thousand(sum(tally.defaults for tally in tallies), sent_count),
        },
        {
            **told,
            "figure": "swap-p99",
            "unit": "ms",
            "ours": median([one["p99_ms"] for one in swapped]),
            "peer": median(still),
            "detail": detail,
        },
    ]
