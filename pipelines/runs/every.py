"""The runs of an environment: those of this machine's folder, and where the registry is a server those of everybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from time import monotonic

import msgspec
from msgspec.structs import replace

from rdv.backends import select
from rdv.backends.ports import Outcome, Pipelines, Status
from rdv.config import Project
from rdv.errors import Exit, NotFound, RdvError, TimedOut
from rdv.pipelines.runs import records as runs
from rdv.pipelines.runs.joins import Joins
from rdv.pipelines.runs.records import OPEN, RECORD, RunRecord, RunState, the_one
from rdv.pipelines.runs.shared import SharedRuns

_LOOK_S = 10.0
"""How often a job that says nothing is looked at by whoever waits for it."""


class Runs:
    """The runs of a project's environment, to be listed, waited for and cancelled from any machine."""

    def __init__(self, project: Project) -> None:
        self._project, self._state = project, project.state

    @cached_property
    def shared(self) -> SharedRuns | None:
        """The records that everybody sees; None where the registry is this machine's own."""
        return SharedRuns(select.registry(self._project)) if select.is_remote(self._project, "registry") else None

    @cached_property
    def jobs(self) -> Pipelines | None:
        """Where pipelines run as jobs; None where they do not."""
        return select.pipelines(self._project) if select.is_remote(self._project, "cluster") else None

    def all(self) -> list[RunRecord]:
        """All runs, newest first."""
        here = {one.run: one for one in runs.list_runs(self._state)}
        there = {one.run: one for one in self.shared.all()} if self.shared else {}
        found = [self._as_it_stands(run, here.get(run), there.get(run)) for run in here.keys() | there.keys()]
        return sorted(found, key=lambda one: one.run, reverse=True)

    def find(self, text: str) -> RunRecord:
        """The run with an id, or with an id that begins so when only one does; NotFound else."""
        if self.shared is None:
            return runs.find_run(self._state, text)
        with suppress(NotFound):
            here = runs.find_run(self._state, text)
            if here.run == text:
                return self._as_it_stands(text, here, self.shared.get(text)[0])
        there = self.shared.get(text)[0]
        return self._as_it_stands(text, None, there) if there else the_one(text, self.all())

    def is_here(self, run: str) -> bool:
        """Whether a run is, or was, carried out from this machine's folder."""
        with suppress(NotFound):
            return runs.find_run(self._state, run).run == run
        return False

    def wait(self, text: str, timeout_s: float | None = None) -> RunRecord:
        """The record of a run once it has ended; TimedOut after timeout_s."""
        run = self.find(text).run
        if self.shared is None or self.is_here(run):
            return runs.wait_for_run(self._state, run, timeout_s)
        until = None if timeout_s is None else monotonic() + timeout_s
        while True:
            index = self.shared.get(run)[1]
            record = self.find(run)
            if record.state not in OPEN:
                return record
            left_s = _LOOK_S if until is None else until - monotonic()
            if left_s <= 0:
                raise TimedOut(f"run {run} is still going on after {timeout_s:g} s", f"see `rdv runs show {run}`")
            self.shared.wait(run, index, min(left_s, _LOOK_S))

    def cancel(self, text: str, by: str = "") -> RunRecord:
        """Ask a run to end, and return its record as it was; of one that is gone, end the steps that are left.

        A step that another run waits for is left to that one.
        """
        record = self.find(text)
        if record.state in OPEN and self.shared is not None and not self.is_here(record.run):
            self.shared.change(record.run, lambda one: replace(one, cancel=one.cancel or by or "somebody"))
            if record.job and self.jobs:
                self.jobs.stop(record.job)
            return record
        if record.state in OPEN or self.jobs is None:
            runs.cancel_run(self._state, record.run, select.cluster(self._project, 1))
        else:
            joins = Joins(self.shared, record.run) if self.shared else None
            self.jobs.stop_steps(record.run, lambda artifact: bool(joins and joins.others(artifact)))
        return record

    def logs(self, run: str, follow: bool = False) -> Iterator[bytes]:
        """What the job of a run has written. NotFound for one that is no job, and was carried out elsewhere."""
        record = self.find(run)
        if not record.job or self.jobs is None:
            raise NotFound(f"the log of run {record.run} is on {record.host or 'another machine'}", "look there")
        return self.jobs.logs(record.job, (lambda: self.find(record.run).state not in OPEN) if follow else None)

    def _as_it_stands(self, run: str, here: RunRecord | None, there: RunRecord | None) -> RunRecord:
        """The record that counts of this machine's and everybody's; what is seen for the first time is written down."""
        if here is not None:
            if there is not None and there.state in OPEN and here.state not in OPEN:
                self._settle(here)
            return here
        assert there is not None, run
        if there.state not in OPEN or self.shared is None:
            return there
        if not there.job and self.shared.is_silent(there):
            return self._settle(replace(there, state="lost", error=f"{there.host} has not been heard of any more"))
        if not there.job or self.jobs is None:
            return there
        try:
            outcome = self.jobs.look(there.job).outcome
            return self._settle(self._ended(there, outcome)) if outcome.status.ended else _with_reason(there, outcome)
        except NotFound:
            return self._settle(self._ended(there, Outcome(step=there.job, status=Status.LOST, reason="it is gone")))
        except RdvError:  # this machine may not ask, or cannot: what is known is shown
            return there

    def _ended(self, record: RunRecord, outcome: Outcome) -> RunRecord:
        """The last record of a run whose job has ended and could not tell, from what it left or how it ended."""
        assert self.jobs is not None
        with suppress(RdvError, msgspec.MsgspecError):
            left = self.jobs.left(record.job, f"{_state_of(record.env)}runs/{record.run}/{RECORD}")
            said = msgspec.json.decode(left, type=RunRecord) if left else record
            if said.state not in OPEN:
                return said
        state: RunState = "interrupted" if outcome.status is Status.CANCELLED else "lost"
        code = Exit.INTERRUPTED if state == "interrupted" else Exit.FAILED
        error = f"its job ended without a word: {outcome.reason or outcome.status.value}"
        return replace(record, state=state, exit_code=int(code), ended=self._now(), error=error)

    def _settle(self, record: RunRecord) -> RunRecord:
        """Write down how a run ended, unless it has said more itself meanwhile."""
        assert self.shared is not None
        with suppress(RdvError):
            change = self.shared.change(record.run, lambda one: one if one.state not in OPEN else record)
            return change or record
        return record

    def _now(self) -> str:
        assert self.shared is not None
        return self.shared.now()


def _with_reason(record: RunRecord, outcome: Outcome) -> RunRecord:
    """The record of a run whose job has not ended, with what it waits for."""
    return replace(record, error=outcome.reason) if record.state == "queued" and outcome.reason else record


def _state_of(env: str) -> str:
    return "" if env == "local" else f"{env}/"
