"""What Nomad's records say about a step, told from records as a real cluster gave them."""

from __future__ import annotations

from typing import Any

import pytest

from rdv.backends.nomad.verdict import combine, judge
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
    """A placed step that waits for a key or a secret names it, and has failed once it has waited too long."""
    event = {"Type": "Template", "DisplayMessage": "Missing: vault.read(secret/data/app)", "Time": 10_000_000_000}
    waits = "waiting on a template: Missing: vault.read(secret/data/app)"
    outcome = judge("s", JOB, [allocation("pending", event)], now_s=70.0, template_s=60.0)
    assert (outcome.status, outcome.reason) == (Status.QUEUED, waits)
    outcome = judge("s", JOB, [allocation("pending", event)], now_s=71.0, template_s=60.0)
    assert (outcome.status, outcome.reason) == (Status.FAILED, f"after 60 s it was still {waits}")


def test_what_was_stopped_before_it_began_is_cancelled() -> None:
    """A step that was placed and stopped before its process ran has not succeeded."""
    placed = {"CreateIndex": 1, "ClientStatus": "complete", "TaskStates": {"step": {"Events": [{"Type": "Received"}]}}}
    assert judge("s", STOPPED, [placed]).status is Status.CANCELLED
    assert judge("s", JOB, [{**placed, "ClientStatus": "failed"}]).status is Status.FAILED


def test_a_missing_image_is_named() -> None:
    """A step whose image is on no node says which one, and what makes it."""
    job = {**JOB, "TaskGroups": [{"Tasks": [{"Config": {"image": "rdv-churn:1"}}]}]}
    event = {"Type": "Driver Failure", "DisplayMessage": "Failed to pull `rdv-churn:1`: connection refused"}
    outcome = judge("s", job, [allocation("failed", event, failed=True)])
    assert outcome.status is Status.FAILED
    assert "no image rdv-churn:1" in outcome.reason
    assert "rdv image build" in outcome.reason


def node(memory_mb: int, cpu: int = 4000, kept_mb: int = 0) -> dict[str, Any]:
    """A node with what it has and keeps."""
    whole = {"Memory": {"MemoryMB": memory_mb}, "Cpu": {"CpuShares": cpu}, "Disk": {"DiskMB": 10_000}}
    return {"NodeResources": whole, "ReservedResources": {"Memory": {"MemoryMB": kept_mb}}}


def failing(**told: Any) -> dict[str, Any]:
    """An evaluation that could not place its group."""
    return {"ModifyIndex": 2, "FailedTGAllocs": {"step": {"NodesEvaluated": 2, **told}}}


@pytest.mark.parametrize(
    ("told", "nodes", "status", "reason"),
    [
        ({"DimensionExhausted": {"memory": 2}}, [node(1024), node(2048)], Status.QUEUED, "full: memory on 2 nodes"),
        ({"DimensionExhausted": {"memory": 2}}, [node(1024)], Status.FAILED, "2,048 MB of memory, the largest node"),
        ({"DimensionExhausted": {"memory": 2}}, [node(2048, kept_mb=1)], Status.FAILED, "the largest node has 2,047"),
        ({"DimensionExhausted": {"memory": 2}}, None, Status.QUEUED, "full: memory"),
        ({"DimensionExhausted": {"memory": 2}}, [], Status.QUEUED, "full: memory"),
        ({"DimensionExhausted": {"cpu": 2}}, [node(9000, 500)], Status.FAILED, "1,000 MHz of processor"),
        ({"NodesFiltered": 2, "ConstraintFiltered": {"missing drivers": 2}}, [], Status.FAILED, "missing drivers"),
        ({"NodesFiltered": 1, "DimensionExhausted": {"memory": 1}}, [node(4096)], Status.QUEUED, "full: memory"),
        ({"NodesEvaluated": 0}, [], Status.QUEUED, "no node is ready"),
    ],
)
def test_full_is_not_impossible(
    told: dict[str, Any], nodes: list[dict[str, Any]] | None, status: Status, reason: str
) -> None:
    """What fits on no node at all has failed, with what lacks; what only finds no room now waits."""
    group = {"Tasks": [{"Resources": {"MemoryMB": 2048, "CPU": 1000}}], "EphemeralDisk": {"SizeMB": 300}}
    outcome = judge("s", {**JOB, "TaskGroups": [group]}, [], [failing(**told)], nodes)
    assert outcome.status is status
    assert reason in outcome.reason


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
        (Status.OUT_OF_MEMORY, Status.FAILED, "", False, Status.OUT_OF_MEMORY, "seen"),
        (Status.OUT_OF_MEMORY, Status.SUCCEEDED, "", False, Status.SUCCEEDED, "said"),
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
