"""A run as a job of the cluster: submitted from anywhere, carried out there.

The job does what `rdv train` does, with the same code: nothing heavy, it dispatches the steps and waits for them. Its
state is in its allocation's folder, its log is its output, and its last word is the run's record.
"""

from __future__ import annotations

import base64
import platform
import sys
import zlib
from pathlib import Path

from msgspec.structs import replace

from rdv.backends import select
from rdv.backends.ports import PIPELINE_STARTS
from rdv.config import Project
from rdv.errors import ConfigError, Exit, RdvError
from rdv.pipelines.runs.asked import Asked, asked, decode, encode
from rdv.pipelines.runs.records import OPEN, RunRecord, RunState, is_run, new_run
from rdv.pipelines.runs.runner import Prepared, Start, TrainRequest, asked_for, train
from rdv.pipelines.runs.shared import SharedRuns
from rdv.pipelines.schedules.moments import due_of_job, is_of_clock, run_of_job
from rdv.pipelines.schedules.run import RunOfSchedule
from rdv.pipelines.step import now_text


def submit(project: Project, request: TrainRequest, scheduled: bool = False) -> RunRecord:
    """Begin a run as a job of the environment's cluster, and return its record, the run being queued.

    Raises UsageError and its kin for a request that makes no sense, before anything is begun.
    """
    if not select.is_remote(project, "registry"):
        where = f"environments.{project.env}.registry"
        raise ConfigError(f"{where} is this machine's own, and a job runs on another", "name one such as consul:")
    jobs, prepared, run = select.pipelines(project), Prepared(project, request), new_run()
    one = asked(project, request, jobs.folder or str(project.folder), whole=False)
    job = jobs.submit(run, encode(for_schedule(one) if scheduled else one))
    record = RunRecord(
        run=run, model=request.model, state="queued", env=project.env, detached=True, arguments=asked_for(prepared),
        started=now_text(), job=job, starts=0,
    )  # fmt: skip
    SharedRuns(select.registry(project)).create(record)  # unless the job has been faster
    return record


def for_schedule(one: Asked) -> Asked:
    """A request as a schedule makes it, again and again: with what rdv.toml says there by then."""
    return replace(one, config=None, scheduled=True)


def main(request: Path, state: Path, job: str, run: str) -> int:
    """Carry out the request in a file as the run of a job; the exit code. run: empty where a clock began the job."""
    try:
        one = decode(_text(request.read_bytes()))
        return int(_carry_out(one, one.project(state), job, run if is_run(run) else run_of_job(job)))
    except RdvError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return int(error.exit_code)


def _carry_out(one: Asked, project: Project, job: str, run: str) -> int:
    registry, model = select.registry(project), one.request.model
    shared = SharedRuns(registry)
    first = RunRecord(run=run, model=model, env=project.env, detached=True, started=now_text(), job=job, starts=0)
    shared.create(first)
    before = shared.get(run)[0] or first
    if before.state not in OPEN:  # what ended it is not mended by another start
        return Exit.OK if before.exit_code is None else before.exit_code
    starts = before.starts + 1
    if starts > PIPELINE_STARTS:
        error = f"its job was started {PIPELINE_STARTS} times and came to no end"
        return _give_up(shared, run, Exit.FAILED, error)
    shared.change(run, lambda record: replace(record, starts=starts, host=platform.node()))
    of_schedule = RunOfSchedule(registry, model, run, due_of_job(job) if is_of_clock(job) else "")
    if one.scheduled and (holder := of_schedule.enter()):
        return _give_up(shared, run, Exit.LOST_RACE, f"a scheduled training of {model} runs already, run {holder}")
    start = Start(job=job, number=starts, last=starts == PIPELINE_STARTS, let_go=lambda: not _is_stopped(project, job))
    result = train(project, one.request, run=run, detached=True, start=start)
    if one.scheduled and result.record.state not in OPEN:
        of_schedule.leave(result.record)
    return result.exit


def _give_up(shared: SharedRuns, run: str, code: Exit, error: str) -> int:
    state: RunState = "refused" if code is Exit.LOST_RACE else "failed"
    shared.change(run, lambda record: replace(record, state=state, exit_code=int(code), error=error, ended=now_text()))
    print(f"error: {error}", file=sys.stderr, flush=True)
    return code


def _is_stopped(project: Project, job: str) -> bool:
    """Whether somebody asked for the end of a job; that is what a signal means where nobody can be asked."""
    try:
        return select.pipelines(project).look(job).stopped
    except RdvError:
        return True


def _text(data: bytes) -> bytes:
    """A request's JSON, from a dispatch's payload or from the text in a periodic job."""
    try:
        return zlib.decompress(data)
    except zlib.error:
        pass
    try:
        return zlib.decompress(base64.b64decode(data))
    except (zlib.error, ValueError) as error:
        raise ConfigError(f"the request cannot be read: {error}", "is the same rdv installed there?") from None
