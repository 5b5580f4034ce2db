"""What Nomad's records say about a step, told from records as a real cluster gave them."""

from __future__ import annotations

from typing import Any

import pytest

from rdv.backends.nomad_verdict import combine, judge
from rdv.backends.ports import Outcome, Status

JOB: dict[str, Any] = {"Stop": False, "Status": "running"}
STOPPED: dict[str, Any] = {"Stop": True, "Status": "dead"}


def terminated(code: int, signal: int = 0, oom: bool = False) -> dict[str, Any]:
    """The event of a task's end."""
    details = {"exit_code": str(code), "signal": str(signal), "oom_killed": str(oom).lower()}
    return {"Type": "Terminated", "Details": details, "Time": 5_000_000_000}


def allocation(status: str, *events: dict[str, Any], failed: bool = False, index: int = 10) -> dict[str, Any]:
    """An allocation with one task."""
    started = {"Type": "Started", "Time": 3_000_000_000}
    task = {"Events": [{"Type": "Received", "Time": 1}, started, *events], "Failed": failed}
    return {"CreateIndex": index, "ClientStatus": status, "TaskStates": {"step": task}}


@pytest.mark.parametrize(
    ("job", "found", "status", "exit_code", "signal"),
    [
        (JOB, allocation("complete", terminated(0)), Status.SUCCEEDED, 0, None),
        (JOB, allocation("failed", terminated(3), failed=True), Status.FAILED, 3, None),
        (JOB, allocation("failed", terminated(137, 9), failed=True), Status.FAILED, None, 9),
        (JOB, allocation("failed", terminated(137, 9, True), failed=True), Status.OUT_OF_MEMORY, None, 9),
        (JOB, allocation("failed", terminated(137, 0, True), failed=True), Status.OUT_OF_MEMORY, None, None),
        (STOPPED, allocation("complete", {"Type": "Killing"}, terminated(130, 2)), Status.CANCELLED, None, 2),
        (STOPPED, allocation("complete", {"Type": "Killing"}, terminated(0)), Status.CANCELLED, None, None),
        (STOPPED, allocation("complete", terminated(0)), Status.SUCCEEDED, 0, None),
        (JOB, allocation("lost"), Status.LOST, None, None),
        (JOB, allocation("running"), Status.RUNNING, None, None),
        (JOB, allocation("unknown"), Status.RUNNING, None, None),
        (JOB, allocation("pending"), Status.QUEUED, None, None),
    ],
)
def test_ends_are_told_apart(
    job: dict[str, Any], found: dict[str, Any], status: Status, exit_code: int | None, signal: int | None
) -> None:
    """Success, failure, signal, want of memory, cancelled (which reads as complete), lost: each is what it is."""
    outcome = judge("s", job, [found])
    assert (outcome.status, outcome.exit_code, outcome.signal) == (status, exit_code, signal)
    if status.ended and status is not Status.LOST:
        assert outcome.wall_s == 2.0


def test_the_newest_allocation_counts() -> None:
    """After a restart elsewhere the first allocation's end is not the step's."""
    first, second = allocation("failed", terminated(1), failed=True, index=1), allocation("running", index=2)
    assert judge("s", JOB, [second, first]).status is Status.RUNNING


def test_a_queue_has_a_reason() -> None:
    """A step without an allocation says what the cluster has too little of, or that no node fits."""
    full = {"ModifyIndex": 2, "FailedTGAllocs": {"step": {"DimensionExhausted": {"memory": 1}}}}
    unfit = {"ModifyIndex": 3, "FailedTGAllocs": {"step": {"ConstraintFiltered": {"missing drivers": 2}}}}
    assert judge("s", JOB, [], []) == Outcome(step="s", status=Status.QUEUED)
    assert judge("s", JOB, [], [full]).reason == "the cluster is full: memory on 1 nodes"
    assert judge("s", JOB, [], [full, unfit]).reason == "no node fits: missing drivers on 2 nodes"
    assert judge("s", STOPPED, [], [full]).status is Status.CANCELLED


def test_a_wait_for_a_template_is_told() -> None:
    """A placed step that waits for a key or a secret names it."""
    event = {"Type": "Template", "DisplayMessage": "Missing: vault.read(secret/data/app)"}
    outcome = judge("s", JOB, [allocation("pending", event)])
    assert outcome.reason == "waiting on a template: Missing: vault.read(secret/data/app)"


def test_what_could_not_be_started_says_why() -> None:
    """A step that failed before its process began has failed with the driver's words."""
    event = {"Type": "Driver Failure", "DisplayMessage": "image missing"}
    outcome = judge("s", JOB, [allocation("failed", event, failed=True)])
    assert (outcome.status, outcome.reason) == (Status.FAILED, "it could not be started: image missing")


@pytest.mark.parametrize(
    ("seen", "said", "asked", "stopped", "status", "reason"),
    [
        (Status.FAILED, Status.OUT_OF_MEMORY, "", False, Status.OUT_OF_MEMORY, "said"),
        (Status.FAILED, None, "", False, Status.FAILED, "seen"),
        (Status.CANCELLED, Status.CANCELLED, "enough", True, Status.CANCELLED, "enough"),
        (Status.CANCELLED, None, "", True, Status.CANCELLED, "somebody stopped its job"),
        (Status.CANCELLED, Status.SUCCEEDED, "enough", True, Status.SUCCEEDED, "said"),
        (Status.FAILED, Status.CANCELLED, "", False, Status.LOST, "its node ended it"),
    ],
)
def test_the_last_word_counts(
    seen: Status, said: Status | None, asked: str, stopped: bool, status: Status, reason: str
) -> None:
    """What the step's own process said goes before Nomad's records, and whoever cancelled gives the reason."""
    word = Outcome(step="", status=said, reason="said", peak_memory_bytes=7) if said else None
    found = combine(Outcome(step="s", status=seen, reason="seen"), word, asked, stopped)
    assert (found.step, found.status, found.reason) == ("s", status, reason)
    assert found.peak_memory_bytes == (7 if said else 0)
