"""The lock that keeps a model's scheduled trainings apart where they are jobs on many machines.

Key `locks/schedules/<model>`, its value the run that holds it. It counts as long as that run lives and says so, so a
run that was killed for good holds it for three minutes more at most.
"""

from __future__ import annotations

from contextlib import suppress

from rdv.backends.ports import Registry
from rdv.clock import Clock
from rdv.errors import LostRace
from rdv.pipelines.runs.shared import SharedRuns

_TRIES = 20


class ScheduleLock:
    """One model's lock."""

    def __init__(self, registry: Registry, model: str, clock: Clock | None = None) -> None:
        self._registry, self._shared = registry, SharedRuns(registry, clock)
        self._key = f"locks/schedules/{model}"

    def holder(self) -> str:
        """The run that holds it now; empty when none does."""
        entry = self._registry.get(self._key)
        run = entry.value.decode(errors="replace") if entry else ""
        return run if run and self._shared.is_alive(run) else ""

    def take(self, run: str) -> str:
        """Take it for a run that has a record; empty when it has it now, else the run that holds it."""
        for _ in range(_TRIES):
            entry = self._registry.get(self._key)
            holder = entry.value.decode(errors="replace") if entry else ""
            if holder == run:
                return ""
            if holder and self._shared.is_alive(holder):
                return holder
            with suppress(LostRace):
                self._registry.put(self._key, run.encode(), expect=entry.index if entry else 0)
                return ""
        raise LostRace(f"{self._key} is changed by others all the time", "try again")

    def release(self, run: str) -> None:
        """Give it back, if that run has it."""
        entry = self._registry.get(self._key)
        if entry and entry.value == run.encode():
            with suppress(LostRace):
                self._registry.delete(self._key, expect=entry.index)
