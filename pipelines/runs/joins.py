"""Who waits for a step of somebody else: so that the end of one run does not end what another one counts on.

Key `joins/<digest of the artifact's name>/<run>`, there as long as that run waits. A key that a killed run left
behind counts for nothing: only runs that live do.
"""

from __future__ import annotations

from contextlib import suppress

from rdv.errors import RdvError
from rdv.ids import digest_bytes
from rdv.pipelines.runs.shared import SharedRuns

KEY = "joins"


class Joins:
    """What one run has joined, and what of its own others have. A registry that does not answer holds nobody up."""

    def __init__(self, shared: SharedRuns, run: str) -> None:
        self._shared, self._run = shared, run

    def add(self, artifact: str) -> None:
        """Say that this run waits for an artifact that another run's step makes."""
        with suppress(RdvError):
            self._shared.registry.put(_key(artifact, self._run), b"")

    def drop(self, artifact: str) -> None:
        """Say that it waits no more."""
        with suppress(RdvError):
            self._shared.registry.delete(_key(artifact, self._run))

    def others(self, artifact: str) -> list[str]:
        """The other runs that wait for an artifact now; none when nobody can be asked."""
        prefix = _key(artifact, "")
        with suppress(RdvError):
            runs = [key.removeprefix(prefix) for key in self._shared.registry.list(prefix)]
            return [run for run in runs if run != self._run and self._shared.is_alive(run)]
        return []


def _key(artifact: str, run: str) -> str:
    return f"{KEY}/{digest_bytes(artifact.encode())[:40]}/{run}"
