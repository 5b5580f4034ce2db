"""Latency at a steady 100 and 833 requests a second that wait for nothing: ours, then FastAPI's."""

from __future__ import annotations

from typing import Any

from answers import Tally, check
from closed_loop import verify
from figures import median, per_ten_thousand, quantile, summary
from idle import IdleTimer
from load import Load, Sent
from project import DEFAULT, BenchProject
from servers import Server, fastapi, ours, temporary_peer


def _run(server: Server, rate: float, seconds: float) -> tuple[list[Sent], dict[str, float]]:
    """Every request of one run, and the machine's noise in it."""
    Load(server.port, server.path, server.bodies, rate, 1.0).wait()
    with IdleTimer() as timer:
        sent = Load(server.port, server.path, server.bodies, rate, seconds).wait()
    return sent, timer.seen()


def _told(runs: list[tuple[list[Sent], dict[str, float]]]) -> list[dict[str, Any]]:
    """Latencies, and how late the client itself was, of each run."""
    return [
        {
            **summary([one.waited_ms for one in sent]),
            "client_late_p99_ms": quantile([one.sent_ms for one in sent if one.sent_ms is not None], 0.99),
            **noise,
        }
        for sent, noise in runs
    ]


def _rate(rate: int, seconds: float, runs: int, project: BenchProject, rdv: Server, api: Server) -> dict[str, Any]:
    """Medians over the runs of one rate, our tally over all of them, everything else as detail."""
    mine, theirs = [], []
    for _ in range(runs):
        mine.append(_run(rdv, rate, seconds))
        theirs.append(_run(api, rate, seconds))
    tallies: list[Tally] = [check(sent, project.expected, DEFAULT, lossy=True) for sent, _ in mine]
    detail = {"ours": _told(mine), "fastapi": _told(theirs), "tallies": tallies}
    return {
        **{
            q: (median([x[q] for x in detail["ours"]]), median([x[q] for x in detail["fastapi"]]))
            for q in ("p50_ms", "p99_ms")
        },
        "timer_ms": max(x["timer_worst_ms"] for x in detail["ours"]),
        "lost": sum(tally.lost + tally.refused for tally in tallies),
        "peer_lost": sum(one.status != 200 for sent, _ in theirs for one in sent),
        "defaults": per_ten_thousand(sum(tally.defaults for tally in tallies), sum(tally.sent for tally in tallies)),
        "detail": detail,
    }


def measure(short: bool) -> list[dict[str, Any]]:
    """p50 and p99 at both rates, and at 833 a second what was lost or got a default, summed over the runs."""
    runs = 1 if short else 3
    with ours() as (project, rdv), temporary_peer(fastapi) as api:
        verify(project, rdv)
        slow = _rate(100, 5.0 if short else 20.0, runs, project, rdv, api)
        fast = _rate(833, 10.0 if short else 60.0, runs, project, rdv, api)
    latency = {
        "open-100-p50": (slow, "p50_ms"),
        "open-100-p99": (slow, "p99_ms"),
        "open-833-p99": (fast, "p99_ms"),
    }
    figures = [
        {
            "figure": name,
            "ours": seen[q][0],
            "peer": seen[q][1],
            "unit": "ms",
            "timer_ms": seen["timer_ms"],
            "detail": seen["detail"],
        }
        for name, (seen, q) in latency.items()
    ]
    counts = {"unit": "requests", "timer_ms": fast["timer_ms"]}
    return [
        *figures,
        {**counts, "figure": "open-833-lost", "ours": float(fast["lost"]), "peer": float(fast["peer_lost"])},
        {**counts, "figure": "open-833-defaults", "ours": fast["defaults"]},
    ]
