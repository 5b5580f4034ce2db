"""A canary under 300 requests a second: rolled back by the command line, then another one promoted.

The rollback is timed from the start of the `rdv rollback` process to the arrival of the canary's last answer.
"""

from __future__ import annotations

import subprocess
import time
from typing import Any

import msgspec
from answers import Tally, check
from closed_loop import verify
from figures import median, per_ten_thousand
from idle import IdleTimer
from load import Load, Sent
from project import CHAMPION, DEFAULT, BenchProject
from servers import RDV, Server, ours

RATE = 300.0
RUN_S = 30.0
SHOWN_S = 2.0
SHARE = "0.5"


class Answer(msgspec.Struct, frozen=True):
    """The part of an answer that this scenario reads."""

    canary: bool = False


def rdv(project: BenchProject, *words: str) -> float:
    """Type a command about the champion; CLOCK_MONOTONIC seconds at which its process was started."""
    began_s = time.monotonic()
    subprocess.run([RDV, words[0], CHAMPION, *words[1:]], cwd=project.folder, check=True, stdout=subprocess.DEVNULL)
    return began_s


def by_canary(sent: list[Sent]) -> list[float]:
    """When each answer that a canary made arrived, CLOCK_MONOTONIC seconds."""
    return [
        one.due_s + one.waited_ms / 1e3
        for one in sent
        if one.status == 200 and msgspec.json.decode(one.body, type=Answer).canary
    ]


def _rolled_back(project: BenchProject, server: Server, version: str) -> tuple[list[Sent], float]:
    """All requests of a run with a canary that is rolled back, and how long it answered after the command was typed."""
    load = Load(server.port, server.path, server.bodies, RATE, RUN_S)
    rdv(project, "deploy", "--version", version, "--canary", "1", "--share", SHARE)
    time.sleep(SHOWN_S)
    began_s = rdv(project, "rollback")
    if not load.running:
        raise RuntimeError("the rollback outlasted the load")
    sent = load.wait()
    arrived = by_canary(sent)
    if not arrived:
        raise RuntimeError("the canary answered nobody, so nothing was rolled back")
    return sent, max(arrived) - began_s


def _promoted(project: BenchProject, server: Server, version: str) -> list[Sent]:
    """All requests of a run with a canary that is promoted."""
    load = Load(server.port, server.path, server.bodies, RATE, RUN_S)
    rdv(project, "deploy", "--version", version, "--canary", "2", "--share", SHARE)
    time.sleep(SHOWN_S)
    rdv(project, "promote")
    if not load.running:
        raise RuntimeError("the promotion outlasted the load")
    sent = load.wait()
    if not by_canary(sent):
        raise RuntimeError("the canary answered nobody, so nothing was promoted")
    return sent


def measure(short: bool) -> list[dict[str, Any]]:
    """Seconds to the last answer by a canary (median), requests lost and answered by default over all runs."""
    runs = 1 if short else 3
    tallies: list[Tally] = []
    over_s: list[float] = []
    with ours() as (project, server):
        for at in range(2 * runs):
            project.publish(CHAMPION, f"v{at + 2}", 4 + at % 2)
        verify(project, server)
        with IdleTimer() as timer:
            for run in range(runs):
                sent, took_s = _rolled_back(project, server, f"v{2 * run + 2}")
                over_s.append(took_s)
                tallies.append(check(sent, project.expected, DEFAULT, lossy=True))
                sent = _promoted(project, server, f"v{2 * run + 3}")
                tallies.append(check(sent, project.expected, DEFAULT, lossy=True))
    told = {"timer_ms": timer.worst_ms, "unit": "requests"}
    count = sum(tally.sent for tally in tallies)
    detail = {**timer.seen(), "over_s": over_s, "tallies": tallies}
    return [
        {**told, "figure": "canary-rollback", "unit": "s", "ours": median(over_s), "detail": detail},
        {**told, "figure": "canary-lost", "ours": float(sum(tally.lost + tally.refused for tally in tallies))},
        {
            **told,
            "figure": "canary-defaults",
            "ours": per_ten_thousand(sum(tally.defaults for tally in tallies), count),
        },
    ]
