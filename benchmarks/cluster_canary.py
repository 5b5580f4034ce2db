"""A canary on a cluster under 300 requests a second, rolled back by the command line: two gateways, two workers.

The load comes in by the proxy, runs from before the canary's start to after its end, and each answer is compared with
`rdv score`. The rollback is timed from the start of the `rdv rollback` process to the canary's last answer's arrival.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from answers import Tally, check
from canary_rollout import RATE, SHARE, SHOWN_S, by_canary
from figures import median
from idle import IdleTimer
from load import Load, Sent
from person import ENV, GOAL, MODEL, Person, person

RUN_S = 45.0
DEFAULT = 0.5


def _rolled_back(who: Person, port: int, bodies: Path, version: str) -> tuple[list[Sent], dict[str, float]]:
    """All requests of a run with a canary that is rolled back, and seconds after the command was typed.

    Those are of the canary's last answer (`answered`) and of the command's end (`ended`).
    """
    load = Load(port, f"/v1/goals/{GOAL}/score", bodies, RATE, RUN_S)
    who.rdv("deploy", MODEL, "--version", version, "--canary", "1", "--share", SHARE, "--env", ENV)
    time.sleep(SHOWN_S)
    began_s = time.monotonic()
    who.rdv("rollback", MODEL, "--env", ENV)
    ended_s = time.monotonic()
    if not load.running:
        raise RuntimeError("the rollback outlasted the load")
    sent = load.wait()
    arrived = by_canary(sent)
    if not arrived:
        raise RuntimeError("the canary answered nobody, so nothing was rolled back")
    return sent, {"answered": max(arrived) - began_s, "ended": ended_s - began_s}


def measure(short: bool) -> list[dict[str, Any]]:
    """Seconds to the last answer by a canary (median), requests without an answer over all runs."""
    runs = 1 if short else 3
    tallies: list[Tally] = []
    over_s: list[dict[str, float]] = []
    with person() as who:
        who.serve("template")
        port, bodies = who.proxy_port(), who.bodies()
        expected = who.expected(bodies)
        with IdleTimer() as timer:
            for run in range(runs):
                sent, took_s = _rolled_back(who, port, bodies, who.versions[1 + run % 2])
                over_s.append(took_s)
                tallies.append(check(sent, expected, DEFAULT, lossy=True))
    told = {"timer_ms": timer.worst_ms, "detail": {**timer.seen(), "over_s": over_s, "tallies": tallies}}
    lost = float(sum(tally.lost + tally.refused for tally in tallies))
    return [
        {**told, "figure": "cluster-canary-rollback", "unit": "s", "ours": median([one["answered"] for one in over_s])},
        {**told, "figure": "cluster-canary-lost", "unit": "requests", "ours": lost},
    ]
