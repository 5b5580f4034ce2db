"""What the id of a job says that a cluster's clock has begun: for which moment, and so which run. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from rdv.errors import ConfigError
from rdv.ids import digest_bytes
from rdv.pipelines.schedules.records import text_of

_MARK = "/periodic-"


def run_of_job(job: str) -> str:
    """The run of a job that a clock began: the same however often the job is started, sorted by its moment."""
    return f"{_moment(job):%Y%m%d-%H%M%S}-{digest_bytes(job.encode())[:6]}"


def due_of_job(job: str) -> str:
    """The moment that a clock began a job for, as schedules write it."""
    return text_of(_moment(job))


def is_of_clock(job: str) -> bool:
    """Whether a clock began a job, not somebody."""
    return job.rpartition(_MARK)[2].isdecimal() and _MARK in job


def _moment(job: str) -> datetime:
    if not is_of_clock(job):
        raise ConfigError(f"job {job} names neither a run nor a moment", "is the same rdv installed there?")
    return datetime.fromtimestamp(int(job.rpartition(_MARK)[2]), UTC)
