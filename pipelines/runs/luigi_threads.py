"""Luigi as a dispatcher: waiting steps are threads of one process, and no ending of a run goes unnoticed.

A Luigi worker forks a process per running task; ours only wait for a job, so that each is a thread here. The hook
for it, `Worker._create_task_process`, is private to Luigi: a test holds it. Nothing is left to a luigi.cfg that
happens to lie around: every setting that changes what a run means is given.
"""

# mypy: allow-untyped-calls
# (most of Luigi's own functions have no types)

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any

import luigi
from luigi.configuration import get_config
from luigi.execution_summary import LuigiStatusCode
from luigi.scheduler import Scheduler
from luigi.task_register import Register
from luigi.worker import TaskProcess, TaskStatusReporter, Worker

from rdv.errors import Exit

RETCODES = {
    "already_running": Exit.LOST_RACE,
    "missing_data": Exit.FAILED,
    "not_run": Exit.FAILED,
    "task_failed": Exit.FAILED,
    "scheduling_error": Exit.FAILED,
    "unhandled_exception": Exit.FAILED,
}
"""Luigi's own names for the ways in which a run can end, each with the exit code of ours. None is zero."""

_STATUS = {
    LuigiStatusCode.SUCCESS: None,
    LuigiStatusCode.SUCCESS_WITH_RETRY: None,
    LuigiStatusCode.FAILED: "task_failed",
    LuigiStatusCode.FAILED_AND_SCHEDULING_FAILED: "task_failed",
    LuigiStatusCode.SCHEDULING_FAILED: "scheduling_error",
    LuigiStatusCode.NOT_RUN: "not_run",
    LuigiStatusCode.MISSING_EXT: "missing_data",
}


def build(tasks: Sequence[luigi.Task], waiting: int) -> Exit:
    """Run tasks with what they require and return how it ended; a KeyboardInterrupt stops what runs and passes on.

    waiting: how many tasks may be running at once, each as a thread. OK says only that Luigi saw no failure: verify
    the root's manifest.
    """
    _configure()
    result: Any = luigi.build(
        list(tasks),
        worker_scheduler_factory=ThreadFactory(),
        detailed_summary=True,
        workers=max(2, waiting),
        local_scheduler=True,
        no_lock=True,
        assistant=False,
        parallel_scheduling=False,
        take_lock=False,
    )
    return exit_of(result.status, bool(result.scheduling_succeeded))


def exit_of(status: LuigiStatusCode, succeeded: bool) -> Exit:
    """The exit code of a build's status; a status that this Luigi version has and we do not know is a failure."""
    name = _STATUS.get(status, "unhandled_exception")
    if name is None:
        return Exit.OK if succeeded else Exit.FAILED
    return RETCODES[name]


def forget_tasks() -> None:
    """Empty Luigi's memory of task objects, which it would keep for the life of the process."""
    Register.clear_instance_cache()


class ThreadFactory:
    """What `luigi.build` takes as its worker_scheduler_factory."""

    def create_local_scheduler(self) -> Scheduler:
        """A scheduler that keeps no history and no state on disk."""
        return Scheduler(
            prune_on_get_work=True, record_task_history=False, batch_emails=False, send_messages=False,
            pause_enabled=False,
        )  # fmt: skip

    def create_worker(self, scheduler: Scheduler, worker_processes: int, assistant: bool = False) -> Worker:
        """A worker whose tasks are threads."""
        return ThreadWorker(
            scheduler=scheduler,
            worker_processes=worker_processes,
            assistant=assistant,
            check_complete_on_run=True,
            check_unfulfilled_deps=True,
            cache_task_completion=False,
            force_multiprocessing=False,
            keep_alive=False,
            max_reschedules=1,
            no_install_shutdown_handler=True,
            retry_external_tasks=False,
            send_failure_email=False,
            task_limit=None,
            task_process_context=None,
            timeout=0,
            wait_interval=1.0,
            wait_jitter=0.0,
        )


class ThreadWorker(Worker):
    """A Luigi worker whose running tasks are threads of this process."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._task_result_queue.close()
        self._task_result_queue: Any = _Results()

    def _create_task_process(self, task: luigi.Task) -> Any:
        return ThreadTask(
            task,
            self._id,
            self._task_result_queue,
            TaskStatusReporter(self._scheduler, task.task_id, self._id, None),
            use_multiprocessing=True,
            worker_timeout=0,
            check_unfulfilled_deps=True,
            check_complete_on_run=True,
        )


class ThreadTask(TaskProcess):
    """A task process that is a thread: its task's `run` only waits for a step elsewhere.

    terminate() calls the task's `stop()`, which makes `run` return soon.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._thread = threading.Thread(target=self._guarded, name=self.task.task_id, daemon=True)

    def _guarded(self) -> None:
        # The result is on the queue by then; a KeyboardInterrupt belongs to the main thread, which has its own.
        try:
            self.run()
        except KeyboardInterrupt:
            return

    def start(self) -> None:
        """Begin to run the task."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the task still runs."""
        return self._thread.is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the task's end."""
        self._thread.join(timeout)

    def terminate(self) -> None:
        """Ask the task to stop and wait a little for it."""
        stop = getattr(self.task, "stop", None)
        if stop is not None:
            stop()
        self._thread.join(5.0)

    @property
    def exitcode(self) -> int | None:
        """None while it runs, then 0: a thread that fails has put its failure on the queue."""
        return None if self._thread.is_alive() else 0

    @property
    def pid(self) -> None:
        """None: there is no process."""
        return None


class _Results(queue.Queue):  # type: ignore[type-arg]
    """A queue within this process, with the one call more that Luigi makes on its own kind."""

    def close(self) -> None:
        """Nothing is open."""


def _configure() -> None:
    config = get_config()
    for name, code in RETCODES.items():
        config.set("retcode", name, str(int(code)))
    config.set("worker", "check_complete_on_run", "true")
    config.set("core", "no_configure_logging", "true")
    config.set("core", "autoload_range", "false")
