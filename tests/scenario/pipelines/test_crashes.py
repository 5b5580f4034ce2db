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
from datetime import date, timedelta
from pathlib import Path
from select import select as select_files
from typing import Any, NamedTuple

import pytest

from rdv.backends import select
from rdv.errors import Exit
from rdv.pipelines.runs.records import find_run, list_runs

KILLS, RACES = 30, 20
GRID = "offset=1..4"
LIMIT_S = 900.0
# One interpreter for many races: it trains for each date that it is told on its standard input.
RACER = """
import sys
from pathlib import Path
from rdv.pipelines.runs.runner import TrainRequest, train
from rdv.settings import load_project
project = load_project(Path(sys.argv[1]))
print("ready", flush=True)
for date in sys.stdin:
    result = train(project, TrainRequest(model="visit/m", settings=(sys.argv[2],), date=date.strip()))
    print(int(result.exit), result.record.trained, result.record.version or result.record.error, flush=True)
"""


# One interpreter from which runs are forked: it says each one's process id, and how it ended.
NURSERY = """
import os, sys
from pathlib import Path
from rdv.pipelines.runs.runner import TrainRequest, train
from rdv.settings import load_project
project = load_project(Path(sys.argv[1]))
print("ready", flush=True)
for date in sys.stdin:
    pid = os.fork()
    if not pid:
        request = TrainRequest(model="visit/m", settings=(sys.argv[2],), date=date.strip())
        os._exit(int(train(project, request).exit))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
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


class Nursery:
    """Runs forked from one interpreter that has imported everything, so that a kill seldom hits an import."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-P", "-c", NURSERY, str(folder), GRID]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert said(self._process) == "ready"

    def start(self, day: str) -> int:
        """Begin a run for a day; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{day}\n")
        self._process.stdin.flush()
        return int(said(self._process))

    def end(self) -> int:
        """How the run ended, once it has: exit code, or minus the signal."""
        return int(said(self._process))

    def close(self) -> None:
        """End the interpreter."""
        self._process.communicate()


class Stored(NamedTuple):
    """A project whose artifacts are in some store, and how often its runs are killed and raced there."""

    sums: Any
    kills: int
    races: int


@pytest.fixture(
    scope="session",
    params=[
        "folder",
        pytest.param("s3", marks=pytest.mark.live),
        pytest.param("hdfs", marks=[pytest.mark.live, pytest.mark.xdist_group("hdfs")]),
    ],
)
def server(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """Where artifacts are, and the server that they are on, none for a folder."""
    fixtures = {"s3": "s3_server", "hdfs": "hdfs_servers"}
    return request.param, request.getfixturevalue(fixtures[request.param]) if request.param in fixtures else None


@pytest.fixture
def stored(server: tuple[str, Any], sums: Any, tmp_path: Path, full: bool) -> Stored:
    """A project with its artifacts there."""
    kind, at = server
    if kind == "folder":
        return Stored(sums, 100 if full else KILLS, RACES)
    if kind == "s3":
        place = f"s3:{at.new_bucket()}?endpoint={at.endpoint}&region=us-east-1&secret=s3"
        secrets = tmp_path / ".rdv" / "secrets.toml"
        secrets.parent.mkdir(exist_ok=True)
        secrets.touch(0o600)
        secrets.write_text(f'"s3/access_key" = "{at.access_key}"\n"s3/secret_key" = "{at.secret_key}"\n')
    else:
        place = f"hdfs:/{tmp_path.parent.name}/{tmp_path.name}?url={at.url}&user=root"
    with (sums.folder / "rdv.toml").open("a") as file:
        file.write(f'[environments.local]\nartifacts = "{place}"\n')
    return Stored(sums, *((100, RACES) if full else (4, 2)))


def test_kills_leave_nothing_half_made(stored: Stored) -> None:
    """Whatever process of a run is killed at whatever moment: what exists is whole, and a rerun gets to the end.

    Each time the run itself, its fork server or a step is killed with SIGKILL; then every artifact that has a manifest
    is read again; then the same request goes on where it was. Thirty times in a folder, four on a server, --full: 100.
    """
    sums = stored.sums
    lots = random.Random(1)
    seen: dict[str, str] = {}
    nursery = Nursery(sums.folder)
    try:
        begun = time.monotonic()
        nursery.start(day(0))
        assert nursery.end() == Exit.OK
        whole_s = time.monotonic() - begun
        kills, finished, until = 0, 1, begun + LIMIT_S
        while kills < stored.kills:
            assert time.monotonic() < until, f"{kills} kills took too long"
            kills += kill_somewhere(nursery.start(day(finished)), lots, lots.uniform(0.05, 1.0) * whole_s)
            finished += nursery.end() == Exit.OK
            assert sums.damage() == []
            for name, manifest in sums.manifests().items():
                assert seen.setdefault(name, manifest.attempt) == manifest.attempt, f"{name} was overwritten"
    finally:
        nursery.close()
    last = sums.train(GRID, date=day(finished))
    assert last.exit is Exit.OK, last.record
    assert sums.damage() == []
    assert list((sums.project().state / "tmp").iterdir()) == []
    store = select.artifacts(sums.project())
    store.collect(store.orphans())
    for one in store.unfinished(0.0):
        store.discard(one)
    assert store.orphans() == store.unfinished(0.0) == []
    assert len(store.names("train/")) == 4 * (finished + 1)
    assert {record.state for record in list_runs(sums.project().state)} <= {"done", "lost", "failed"}


def day(number: int) -> str:
    """A date of its own for each round."""
    return (date(2024, 1, 1) + timedelta(days=number)).isoformat()


def kill_somewhere(run: int, lots: random.Random, after_s: float) -> int:
    """Kill one process of a run after so many seconds; 1 when the run still went on."""
    try:
        ended = os.pidfd_open(run)
    except ProcessLookupError:
        return 0
    try:
        if select_files([ended], [], [], after_s)[0]:
            return 0
        family = descendants(run)
        with suppress(ProcessLookupError):
            os.kill(lots.choice([run, lots.choice(family), family[-1]]), signal.SIGKILL)
        return 1
    finally:
        os.close(ended)


def test_races_of_two_train_each_thing_once(stored: Stored) -> None:
    """Two runs of one request started together both end well, with the same version, and each point is trained once.

    Twenty times in a folder, twice on a server.
    """
    sums = stored.sums
    racers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", RACER, str(sums.folder), "offset=1..3"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        assert [said(racer) for racer in racers] == ["ready"] * 2
        for race in range(stored.races):
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write(f"{day(race)}\n")
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
    assert (made["train"], made["dataset"], made["validate"]) == (3 * stored.races, stored.races, stored.races)
    assert {find_run(sums.project().state, one.run).state for one in list_runs(sums.project().state)} == {"done"}


def said(process: subprocess.Popen[str]) -> str:
    """The next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
