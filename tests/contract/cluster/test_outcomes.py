"""The cluster port's contract on how steps end: every kind of end is told apart, and nothing of a step survives it."""

from typing import Any

import pytest

from rdv.backends.ports import Status


def test_a_step_gets_its_payload(bench: Any) -> None:
    """An entry is called with the payload; success is exit code 0, with its wall time and peak memory."""
    cluster = bench.cluster()
    step = cluster.dispatch(bench.spec("say", {"text": "h\u00e9\U0001f600"}))
    outcome = cluster.wait(step)
    assert (outcome.step, outcome.status, outcome.exit_code, outcome.signal) == (step, Status.SUCCEEDED, 0, None)
    assert (outcome.reason, outcome.joined) == ("", False)
    assert outcome.wall_s > 0
    assert outcome.peak_memory_bytes > 1 << 20
    assert bench.log(cluster, step) == "out h\u00e9\U0001f600\nerr h\u00e9\U0001f600\n"


def test_a_step_is_at_home_in_its_folder(bench: Any) -> None:
    """A step runs in its folder and finds the modules there; it leads a process group and may use its processors."""
    cluster = bench.cluster()
    step = cluster.dispatch(bench.spec("environment", cpus=2))
    assert cluster.wait(step).status is Status.SUCCEEDED
    assert bench.log(cluster, step).split() == [str(bench.folder), "2", "True", "entries.py"]


@pytest.mark.parametrize("code", [1, 7, 255])
def test_an_exit_code_is_kept(bench: Any, code: int) -> None:
    """A step that leaves with a code has failed with this code."""
    outcome = bench.run(bench.cluster(), bench.spec("leave", {"code": code}))
    assert (outcome.status, outcome.exit_code, outcome.signal) == (Status.FAILED, code, None)


def test_leaving_with_nothing_is_success(bench: Any) -> None:
    """sys.exit(None) and sys.exit(0) are success."""
    cluster = bench.cluster()
    assert bench.run(cluster, bench.spec("leave", {"code": None})).status is Status.SUCCEEDED
    assert bench.run(cluster, bench.spec("leave", {"code": 0})).status is Status.SUCCEEDED


def test_an_exception_is_told(bench: Any) -> None:
    """A step that raises has failed with exit code 1; the exception is the reason, the traceback is in the log."""
    cluster = bench.cluster()
    step = cluster.dispatch(bench.spec("fail"))
    outcome = cluster.wait(step)
    assert (outcome.status, outcome.exit_code, outcome.reason) == (Status.FAILED, 1, "ValueError: no good")
    log = bench.log(cluster, step)
    assert "Traceback" in log
    assert "entries.py" in log


def test_a_known_error_keeps_its_exit_code(bench: Any) -> None:
    """An error of rdv's own gives the step its exit code, its message and its hint."""
    outcome = bench.run(bench.cluster(), bench.spec("refuse"))
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 7)
    assert outcome.reason == "the model is constant; look at its data"


@pytest.mark.parametrize("entry", ["nowhere:main", "entries:nothing", "entries:__doc__"])
def test_an_entry_that_does_not_exist_fails(bench: Any, entry: str) -> None:
    """A module, function or callable that is not there fails the step, with the name in its reason."""
    outcome = bench.run(bench.cluster(), bench.spec("none", entry=entry))
    assert outcome.status is Status.FAILED
    assert entry.partition(":")[2 if entry.startswith("entries") else 0] in outcome.reason


def test_a_killed_step_is_told(bench: Any) -> None:
    """A step that somebody kills has failed, with the signal."""
    outcome = bench.run(bench.cluster(), bench.spec("die"))
    assert (outcome.status, outcome.exit_code, outcome.signal) == (Status.FAILED, None, 9)
    assert "SIGKILL" in outcome.reason


def test_out_of_memory_is_no_failure(bench: Any) -> None:
    """A step that passes its memory limit is ended as out of memory, with a peak of at least the limit."""
    outcome = bench.run(bench.cluster(), bench.spec("allocate", memory_mb=128))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert "128 MB" in outcome.reason
    assert 128 << 20 <= outcome.peak_memory_bytes < 1 << 30


def test_the_limit_is_the_groups(bench: Any) -> None:
    """The memory of a step's child processes counts together, and all of them are ended."""
    outcome = bench.run(bench.cluster(), bench.spec("allocate_in_children", {"mb": 80}, memory_mb=256))
    assert outcome.status is Status.OUT_OF_MEMORY


def test_refused_memory_is_out_of_memory(bench: Any) -> None:
    """A step that is refused memory and raises MemoryError is out of memory, not failed."""
    outcome = bench.run(bench.cluster(), bench.spec("refused_memory"))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert "7 TB" in outcome.reason


def test_the_wall_clock_limit_ends_a_step(bench: Any) -> None:
    """A step that runs longer than its wall clock limit is ended with everything that it started."""
    cluster = bench.cluster()
    step = cluster.dispatch(bench.spec("parent_of", {"stay": True}, wall_s=0.5))
    outcome = cluster.wait(step)
    assert (outcome.status, outcome.reason) == (Status.TIMED_OUT, "it ran longer than 0.5 s")
    assert 0.5 <= outcome.wall_s < 30
    assert not bench.alive(int(bench.log(cluster, step)))


def test_background_processes_end_with_their_step(bench: Any) -> None:
    """What a step started in the background and left behind is gone when the step has succeeded."""
    cluster = bench.cluster()
    step = cluster.dispatch(bench.spec("parent_of", {"stay": False}))
    assert cluster.wait(step).status is Status.SUCCEEDED
    assert not bench.alive(int(bench.log(cluster, step)))


def test_cancel_a_running_step(bench: Any) -> None:
    """Cancelling a running step ends its process group and gives the reason."""
    cluster = bench.cluster()
    step = cluster.dispatch(bench.gated())
    (pid,) = bench.started()
    cluster.cancel(step, "changed my mind")
    outcome = cluster.wait(step)
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "changed my mind")
    assert not bench.alive(pid)


def test_cancel_a_queued_step(bench: Any) -> None:
    """A step that is cancelled while it queues never runs, and the one behind it does."""
    cluster = bench.cluster(1)
    first = cluster.dispatch(bench.gated("a"))
    bench.started("a")
    second, third = cluster.dispatch(bench.gated("b")), cluster.dispatch(bench.spec("say", {"text": "hi"}))
    cluster.cancel(second, "not needed")
    outcome = cluster.wait(second)
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "not needed")
    bench.open("a")
    assert cluster.wait(first).status is cluster.wait(third).status is Status.SUCCEEDED
    assert not bench.folder.joinpath("b.started").exists()


def test_cancel_leaves_an_ended_step(bench: Any) -> None:
    """Cancelling a step that has ended changes nothing."""
    cluster = bench.cluster()
    outcome = bench.run(cluster, bench.spec("leave", {"code": 3}))
    cluster.cancel(outcome.step, "too late")
    assert cluster.wait(outcome.step) == outcome


def test_cancel_from_another_dispatcher(bench: Any) -> None:
    """A running step can be cancelled by somebody who did not dispatch it; its dispatcher sees that, and why."""
    cluster, other = bench.cluster(), bench.cluster()
    step = cluster.dispatch(bench.gated())
    bench.started()
    other.cancel(step, "from afar")
    for one in (cluster.wait(step), other.wait(step)):
        assert (one.status, one.reason) == (Status.CANCELLED, "from afar")


def test_cancel_a_queued_step_from_another_dispatcher(bench: Any) -> None:
    """A queued step that somebody else cancels does not run when its turn comes."""
    cluster, other = bench.cluster(1), bench.cluster()
    cluster.dispatch(bench.gated("a"))
    bench.started("a")
    step = cluster.dispatch(bench.gated("b"))
    other.cancel(step, "from afar")
    bench.open("a")
    assert cluster.wait(step).status is other.wait(step).status is Status.CANCELLED
    assert not bench.folder.joinpath("b.started").exists()
