"""A champion that is swapped 20 times while 500 requests a second come in, against the same load without a swap.

Every swap is to a version that no worker has seen: it is fetched, probed, loaded and warmed while the old one answers.
"""

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
EVERY_S = 2.0
SERVED_S = 15.0
# Room at the end for swaps that took longer than planned: every one of them has to happen under load.
SPARE_S = 4.0
SEEDS = (4, 5, 1)


def _load(server: Server, swaps: int) -> Load:
    return Load(server.port, server.path, server.bodies, RATE, swaps * EVERY_S + SPARE_S)


def _swap(project: BenchProject, server: Server, versions: list[str]) -> tuple[list[Sent], list[float]]:
    """All requests of a run with some swaps, and how long each swap took until every worker served it, in seconds."""
    load, took_s = _load(server, len(versions)), []
    for at, version in enumerate(versions):
        time.sleep(max(0.0, load.start_s + 0.5 + at * EVERY_S - time.monotonic()))
        begun = time.monotonic()
        project.release(CHAMPION, version)
        wait_until_served(project.project, CHAMPION, version, SERVED_S)
        took_s.append(time.monotonic() - begun)
    if not load.running:
        raise RuntimeError(f"the swaps outlasted the load: {took_s}")
    return load.wait(), took_s


def measure(short: bool) -> list[dict[str, Any]]:
    """Requests lost and answered by default (summed over the runs), p99 with and without swaps (medians)."""
    runs, swaps = (1, 5) if short else (3, 20)
    tallies: list[Tally] = []
    swapped, still, took_s = [], [], []
    versions = [f"v{at}" for at in range(2, runs * swaps + 2)]
    with ours() as (project, rdv):
        for at, version in enumerate(versions):
            project.publish(CHAMPION, version, SEEDS[at % len(SEEDS)])
        verify(project, rdv)
        with IdleTimer() as timer:
            for run in range(runs):
                still.append(quantile([one.waited_ms for one in _load(rdv, swaps).wait()], 0.99))
                sent, took = _swap(project, rdv, versions[run * swaps : (run + 1) * swaps])
                tallies.append(check(sent, project.expected, DEFAULT, lossy=True))
                swapped.append(summary([one.waited_ms for one in sent]))
                took_s += took
    answered = {name for tally in tallies for name in tally.versions}
    if unseen := {f"{CHAMPION} {version}" for version in versions} - answered:
        raise RuntimeError(f"versions that were served but never answered: {sorted(unseen)}")
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
