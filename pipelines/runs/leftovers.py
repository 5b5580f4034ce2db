"""What runs have left behind on the cluster, and the end of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from rdv.backends import select
from rdv.backends.ports import Reaped, Registry
from rdv.config import Project
from rdv.pipelines.runs import records as runs
from rdv.pipelines.runs.joins import Joins
from rdv.pipelines.runs.records import OPEN
from rdv.pipelines.runs.shared import SharedRuns


class Leftovers:
    """Steps of an environment's runs that nobody waits for any more."""

    def __init__(self, project: Project, registry: Registry) -> None:
        self._project = project
        self._shared = SharedRuns(registry) if select.is_remote(project, "registry") else None

    def reap(self) -> Sequence[Reaped]:
        """End them, and what does not end by itself; ConfigError where the cluster is this machine."""
        return select.jobs(self._project).reap(self.ended_s, self.is_awaited)

    def ended_s(self, run: str) -> float | None:
        """When a run ended, in seconds since the epoch, of one that is lost its last sign of life; None while it goes

        on, or when nobody here knows it.
        """
        record = self._shared.get(run)[0] if self._shared else None
        if self._shared is None or record is None:
            return runs.ended_s(self._project.state, run)
        if record.state in OPEN and not self._shared.is_silent(record):
            return None
        with suppress(ValueError):
            return datetime.fromisoformat(record.ended or record.seen).timestamp()
        return None

    def is_awaited(self, artifact: str) -> bool:
        """Whether a run that lives has joined the step that makes an artifact."""
        return self._shared is not None and bool(Joins(self._shared, "").others(artifact))
