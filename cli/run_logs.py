"""The log of a run or of a step, whichever an id names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdv.config import Project


def log_chunks(project: Project, run: str, follow: bool) -> Iterator[bytes]:
    """What a run or a step has written; with follow also what it writes until it ends. NotFound for neither."""
    from rdv.backends import select
    from rdv.backends.local.logs import chunks
    from rdv.errors import NotFound
    from rdv.pipelines.runs.every import Runs
    from rdv.pipelines.runs.records import OPEN, find_run

    every = Runs(project)
    try:
        found = every.find(run)
    except NotFound as no_run:
        try:
            yield from select.cluster(project, 1).logs(run, follow)
        except NotFound:
            raise no_run from None
        return
    if not every.is_here(found.run):
        yield from every.logs(found.run, follow)
        return
    ended = (lambda: find_run(project.state, found.run).state not in OPEN) if follow else None
    yield from chunks(project.state / "runs" / found.run, ended)
