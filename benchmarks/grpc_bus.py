"""What the bus between hosts costs: three models over gRPC with certificates on both ends, on one machine.

As many requests as 32 connections get through, beside FastAPI with one model; and the latency at 100 requests a second
beside the frames bus, in turn, so that a slow minute of the machine hits them alike.
"""

from __future__ import annotations

from typing import Any

from answers import check
from authority import write_certificates
from closed import Closed, closed_loop
from closed_loop import WARM_S, verify
from figures import median, quantile, summary
from idle import IdleTimer
from load import Load, Sent
from project import DEFAULT
from servers import Server, fastapi, ours, temporary_peer

RATE = 100


def _p50_ms(sent: list[Sent]) -> float:
    return quantile([one.waited_ms for one in sent], 0.5)


def measure(short: bool) -> list[dict[str, Any]]:
    """The throughput and the latency; every answer is checked, and none may be lost."""
    runs, seconds, slow_s = (1, 3.0, 5.0) if short else (3, 5.0, 20.0)
    busy: dict[str, list[Closed]] = {"ours": [], "fastapi": []}
    slow: dict[str, list[list[Sent]]] = {"ours": [], "frames": []}
    with (
        ours(write_certificates) as (project, rdv),
        ours() as (_, frames),
        temporary_peer(fastapi) as api,
        IdleTimer() as timer,
    ):
        verify(project, rdv)
        for _ in range(runs):
            for name, server in (("ours", rdv), ("fastapi", api)):
                closed_loop(server.port, server.path, server.bodies, 32, WARM_S)
                busy[name].append(closed_loop(server.port, server.path, server.bodies, 32, seconds))
            for name, server in (("ours", rdv), ("frames", frames)):
                slow[name].append(_steady(server, slow_s))
        verify(project, rdv)
    tallies = [check(sent, project.expected, DEFAULT) for sent in slow["ours"]]
    if lost := sum(tally.lost + tally.refused for tally in tallies):
        raise RuntimeError(f"{lost} requests were lost over the gRPC bus")
    told = {"timer_ms": timer.worst_ms}
    waits = {name: [summary([one.waited_ms for one in sent]) for sent in runs] for name, runs in slow.items()}
    return [
        {
            **told,
            "figure": "grpc-closed-32",
            "unit": "req/s",
            "ours": median([one.per_s for one in busy["ours"]]),
            "peer": median([one.per_s for one in busy["fastapi"]]),
            "detail": {**timer.seen(), **busy},
        },
        {
            **told,
            "figure": "grpc-100-p50",
            "unit": "ms",
            "ours": median([_p50_ms(sent) for sent in slow["ours"]]),
            "peer": median([_p50_ms(sent) for sent in slow["frames"]]),
            "detail": {**waits, "tallies": tallies},
        },
    ]


def _steady(server: Server, seconds: float) -> list[Sent]:
    Load(server.port, server.path, server.bodies, RATE, 1.0).wait()
    return Load(server.port, server.path, server.bodies, RATE, seconds).wait()
