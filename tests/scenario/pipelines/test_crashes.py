"""kill -9 at any moment, and two runs at once: nothing half-made, nothing made twice, everything in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from rdv.backends import select
from rdv.errors import Exit
from rdv.pipelines.runs import find_run, list_runs

KILLS, RACES = 30, 20
GRID = "offset=1..4"
LIMIT_S = 300.0
# One interpreter for many races: it trains for each date that it is told on its standard input.
RACER = """
import sys
from pathlib import Path
from rdv.pipelines.runner import TrainRequest, train
from rdv.settings import load_project
project = load_project(Path(sys.argv[1]))
print("ready", flush=True)
for date in sys.stdin:
    result = train(project, TrainRequest(model="visit/m", settings=(sys.argv[2],), date=date.strip()))
    print(int(result.exit), result.record.trained, result.record.version, flush=True)
"""


def descendants(pid: int) -> list[int]:
    """The process and everything below it."""
    found, at = [pid], 0
    while at < len(found):
        with suppress(OSError):
            children = Path(f"/proc/{found[at]}/task").iterdir()
            for thread in children:
                found += [int(child) for child in (thread / "children").read_text().split()]
        at += 1
    return found


def test_thirty_kills_leave_nothing_half_made(sums: Any) -> None:
    """Whatever process of a run is killed at whatever moment: what exists is whole, and a rerun gets to the end.

    Each time the run itself, its fork server or a step is killed with SIGKILL; then every artifact that has a manifest
    is read again; then the same request goes on where it was.
    """
    lots = random.Random(1)
    seen: dict[str, str] = {}
    kills = finished = 0
    until = time.monotonic() + LIMIT_S
    while kills < KILLS:
        assert time.monotonic() < until, f"{kills} kills took too long"
        process = sums.start(GRID, date=f"2024-01-{finished + 1:02d}")
        kills += kill_somewhere(process, lots)
        code = process.wait(60)
        assert sums.damage() == []
        for name, manifest in sums.manifests().items():
            assert seen.setdefault(name, manifest.attempt) == manifest.attempt, f"{name} was overwritten"
        finished += code == Exit.OK
    last = sums.train(GRID, date=f"2024-01-{finished + 1:02d}")
    assert last.exit is Exit.OK, last.record
    assert sums.damage() == []
    assert list((sums.project().state / "tmp").iterdir()) == []
    store = select.artifacts(sums.project())
    assert len(store.names("train/")) == 4 * (finished + 1)
    assert {record.state for record in list_runs(sums.project().state)} <= {"done", "lost", "failed"}


def kill_somewhere(process: subprocess.Popen[bytes], lots: random.Random) -> int:
    """Kill one process of a run at a random moment; 1 when there still was one."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(lots.uniform(0.2, 2.5))
        return 0
    family = descendants(process.pid)
    with suppress(ProcessLookupError):
        os.kill(lots.choice([process.pid, lots.choice(family), family[-1]]), signal.SIGKILL)
    return 1


def test_twenty_races_of_two_train_each_thing_once(sums: Any) -> None:
    """Two runs of one request started together both end well, with the same version, and each point is trained once."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", RACER, str(sums.folder), "offset=1..3"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        assert [said(racer) for racer in racers] == ["ready"] * 2
        for race in range(RACES):
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write(f"2024-02-{race + 1:02d}\n")
                racer.stdin.flush()
            ends = [said(racer).split() for racer in racers]
            assert [end[0] for end in ends] == ["0", "0"], ends
            assert ends[0][2] == ends[1][2]
            assert sum(int(end[1]) for end in ends) == 3, ends
    finally:
        for racer in racers:
            racer.communicate()
    assert sums.damage() == []
    made = Counter(name.split("/")[0] for name in sums.manifests())
    assert (made["train"], made["dataset"], made["validate"]) == (3 * RACES, RACES, RACES)
    assert {find_run(sums.project().state, one.run).state for one in list_runs(sums.project().state)} == {"done"}


def said(process: subprocess.Popen[str]) -> str:
    """The next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
