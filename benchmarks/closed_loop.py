"""As many requests as 32 connections, and one, get through: ours with three models and a decoy, FastAPI with one."""

from __future__ import annotations

from typing import Any

from answers import check
from case import BODIES
from closed import Closed, closed_loop
from figures import median
from idle import IdleTimer
from load import Load
from project import DEFAULT, BenchProject
from servers import Server, echo, fastapi, ours, temporary_peer

WARM_S = 1.0


def verify(project: BenchProject, server: Server) -> None:
    """Raise when one of the request bodies is not answered as its model would."""
    sent = Load(server.port, server.path, server.bodies, rate=200.0, seconds=BODIES / 200.0).wait()
    tally = check(sent, project.expected, DEFAULT)
    if tally.lost or tally.defaults > tally.sent // 10:
        raise RuntimeError(f"of {tally.sent} requests {tally.lost} were lost and {tally.defaults} answered by default")


def measure(short: bool) -> list[dict[str, Any]]:
    """Answers a second, the servers in turn so that a slow minute of the machine hits them alike."""
    runs, seconds = (1, 3.0) if short else (3, 5.0)
    seen: dict[tuple[str, int], list[Closed]] = {}
    with ours() as (project, rdv), temporary_peer(fastapi) as api, temporary_peer(echo) as bare, IdleTimer() as timer:
        verify(project, rdv)
        for _ in range(runs):
            for connections in (32, 1):
                for server in (rdv, api, bare):
                    closed_loop(server.port, server.path, server.bodies, connections, WARM_S)
                    result = closed_loop(server.port, server.path, server.bodies, connections, seconds)
                    seen.setdefault((server.name, connections), []).append(result)
        verify(project, rdv)
    figures = []
    for connections in (32, 1):
        mine, theirs, edge = (seen[server.name, connections] for server in (rdv, api, bare))
        told = {"unit": "req/s", "timer_ms": timer.worst_ms, "ours": median([one.per_s for one in mine])}
        figures += [
            {
                **told,
                "figure": f"closed-{connections}",
                "peer": median([one.per_s for one in theirs]),
                "detail": {**timer.seen(), "ours": mine, "fastapi": theirs},
            },
            {
                **told,
                "figure": f"closed-{connections}-share-of-echo",
                "peer": median([one.per_s for one in edge]),
                "detail": {"echo": edge},
            },
        ]
    return figures
