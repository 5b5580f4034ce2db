"""Luigi as we use it: its private hook is where we expect it, and no bad ending is taken for a good one."""

from __future__ import annotations

import inspect
import os
import threading
import time

import luigi
import pytest
from luigi.execution_summary import LuigiStatusCode
from luigi.retcodes import retcode
from luigi.task_register import Register
from luigi.worker import TaskProcess, Worker

from rdv.errors import Exit
from rdv.pipelines.runs.luigi_threads import RETCODES, ThreadTask, ThreadWorker, build, exit_of


class Board:
    """What tasks of a test have done."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.threads: set[int] = set()
        self.together = threading.Barrier(64)
        self.stopped = threading.Event()


class Waiting(luigi.Task):
    """A task that waits until 64 of its kind run at once."""

    board = luigi.Parameter(significant=False, visibility=luigi.parameter.ParameterVisibility.PRIVATE)
    at = luigi.Parameter()

    def run(self) -> None:
        self.board.threads.add(threading.get_ident())
        self.board.together.wait(30)
        self.board.done.add(self.at)

    def complete(self) -> bool:
        return self.at in self.board.done


class Failing(Waiting):
    """A task that raises."""

    def run(self) -> None:
        raise ValueError("no")


class Idle(Waiting):
    """A task that makes nothing."""

    def run(self) -> None:
        return


class Broken(Waiting):
    """A task that cannot say whether it is done."""

    def complete(self) -> bool:
        raise ValueError("no")


class Missing(Waiting, luigi.ExternalTask):
    """Something that nobody here makes."""

    run = None


class After(Waiting):
    """A task that needs a missing one."""

    def requires(self) -> luigi.Task:
        return Missing(board=self.board, at="missing")


class Long(Waiting):
    """A task that runs until it is stopped."""

    def run(self) -> None:
        self.board.done.add("started")
        self.board.stopped.wait(30)
        raise RuntimeError("stopped")

    def stop(self) -> None:
        self.board.stopped.set()

    def complete(self) -> bool:
        return False


@pytest.fixture
def board() -> Board:
    """A fresh board, and no task left in Luigi's memory."""
    Register.clear_instance_cache()
    return Board()


def test_sixty_four_tasks_wait_in_one_process(board: Board) -> None:
    """64 tasks are running at the same moment, each in a thread of this process, and all are done."""
    assert build([Waiting(board=board, at=str(at)) for at in range(64)], waiting=64) is Exit.OK
    assert len(board.done) == len(board.threads) == 64


def test_the_private_hook_is_where_we_override_it() -> None:
    """Luigi's worker still makes its tasks' processes through the method that we replace, with what we rely on."""
    assert list(inspect.signature(Worker._create_task_process).parameters) == ["self", "task"]
    assert "_create_task_process(task)" in inspect.getsource(Worker._run_task)
    assert "_task_result_queue" in inspect.getsource(Worker.__init__)
    for name in ("start", "is_alive", "terminate", "exitcode"):
        assert name in vars(ThreadTask)
    assert issubclass(ThreadTask, TaskProcess)
    assert ThreadWorker._create_task_process is not Worker._create_task_process


@pytest.mark.parametrize("kind", [Failing, Idle, Broken, After])
def test_no_bad_ending_is_a_success(board: Board, kind: type[Waiting]) -> None:
    """A task that raises, makes nothing, cannot tell whether it is done, or misses its input never ends in OK."""
    assert build([kind(board=board, at="x")], waiting=2) is not Exit.OK


def test_one_bad_task_among_good_ones_is_seen(board: Board) -> None:
    """A failure beside successes is still a failure."""
    board.together = threading.Barrier(1)
    tasks = [Waiting(board=board, at="a"), Failing(board=board, at="b"), Waiting(board=board, at="c")]
    assert build(tasks, waiting=3) is Exit.FAILED
    assert board.done == {"a", "c"}


def test_every_status_of_luigi_has_an_exit_code() -> None:
    """Each status that this Luigi knows maps to an exit code, and only the two good ones to 0."""
    good = {status for status in LuigiStatusCode if exit_of(status, True) is Exit.OK}
    assert good == {LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY}
    assert exit_of(LuigiStatusCode.SUCCESS, False) is Exit.FAILED


def test_all_of_luigis_retcodes_are_set(board: Board) -> None:
    """Every way to end that Luigi gives 0 by default has a code of ours in its configuration, none of them 0."""
    build([], waiting=1)
    set_ = retcode()
    names = {name for name, _ in retcode.get_params()}
    assert names == set(RETCODES)
    assert all(getattr(set_, name) == RETCODES[name] != 0 for name in names)


def test_an_interrupt_stops_what_runs(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the waiting process stops the running tasks and comes out as KeyboardInterrupt."""

    def interrupt() -> None:
        until = time.monotonic() + 30
        while "started" not in board.done and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), 2)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        build([Long(board=board, at="x")], waiting=2)
    assert board.stopped.is_set()
