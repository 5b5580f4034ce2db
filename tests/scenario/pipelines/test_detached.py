"""Runs that outlive the terminal: started, waited for, cancelled."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from rdv.backends import select
from rdv.errors import Exit, NotFound, TimedOut, UsageError
from rdv.pipelines.runs.detached import train_detached
from rdv.pipelines.runs.records import cancel_run, find_run, wait_for_run
from rdv.pipelines.runs.runner import TrainRequest

SLOW = """
    def execute(self, inputs, output_folder):
        from pathlib import Path
        import time
        Path("started").touch()
        while not Path("go").exists():
            time.sleep(0.02)
        return super().execute(inputs, output_folder)
"""


def test_a_detached_run_goes_on_by_itself(sums: Any, sum_task: str) -> None:
    """It is a process of a session of its own, can be waited for, and leaves the record of any other run."""
    sums.code(sum_task + SLOW)
    state = sums.project().state
    run = train_detached(sums.project(), TrainRequest(model="visit/m"))
    record = find_run(state, run)
    assert (record.state, record.detached) == ("running", True)
    assert os.getsid(record.pid) == record.pid != os.getsid(0)
    with pytest.raises(TimedOut):
        wait_for_run(state, run, 0.05)
    (sums.folder / "go").touch()
    ended = wait_for_run(state, run, 60)
    assert (ended.state, ended.exit_code) == ("done", 0), ended
    assert sums.versions() == [ended.version]
    _reap(record.pid)


def test_a_detached_run_can_be_cancelled(sums: Any, sum_task: str) -> None:
    """Cancelling ends its steps and leaves exit code 130; cancelling twice changes nothing."""
    sums.code(sum_task + SLOW)
    project = sums.project()
    run = train_detached(project, TrainRequest(model="visit/m"))
    until = time.monotonic() + 60
    while not (sums.folder / "started").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    cluster = select.cluster(project, 1)
    assert cancel_run(project.state, run, cluster).state == "running"
    ended = wait_for_run(project.state, run, 60)
    assert (ended.state, ended.exit_code) == ("interrupted", Exit.INTERRUPTED)
    assert cancel_run(project.state, run, cluster).state == "interrupted"
    assert all(outcome.status.ended for outcome in cluster.steps(run).values())
    cluster.close()
    _reap(ended.pid)


def test_a_senseless_request_is_told_before_anything_starts(sums: Any) -> None:
    """A request that makes no sense fails at once, in the caller's terminal."""
    with pytest.raises(UsageError):
        train_detached(sums.project(), TrainRequest(model="visit/m", settings=("offset=a",)))
    with pytest.raises(NotFound):
        find_run(sums.project().state, "2")


def test_many_may_wait_for_one_run(sums: Any, sum_task: str) -> None:
    """Everybody who waits gets the same record, and nobody waits for a run that has ended."""
    sums.code(sum_task + SLOW)
    state = sums.project().state
    run = train_detached(sums.project(), TrainRequest(model="visit/m"))
    found: list[Any] = []
    waiters = [threading.Thread(target=lambda: found.append(wait_for_run(state, run, 60))) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    (sums.folder / "go").touch()
    for waiter in waiters:
        waiter.join(60)
    assert found == [wait_for_run(state, run, 0)] * 3
    _reap(found[0].pid)


def _reap(pid: int) -> None:
    """Collect the ended process, whose parent this one is."""
    os.waitpid(pid, 0)
