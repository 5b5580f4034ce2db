"""The canaries of one machine: begun while their rollouts are on, and stopped afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rdv.records import Rollout
from rdv.serving.processes.specs import RoleProcess, canary_processes


class CanaryKeeper:
    """Has processes run as rollouts ask for them. running: by name, those that were begun and not stopped."""

    def __init__(self, start: Callable[[RoleProcess], None], stop: Callable[[list[str]], Awaitable[None]]) -> None:
        """start, stop: begin one process; end some, by their names, and return when they are gone."""
        self._start, self._stop = start, stop
        self._rollouts: dict[str, Rollout] = {}
        self._changed = asyncio.Event()
        self.running: dict[str, RoleProcess] = {}

    def told(self, model: str, rollout: Rollout | None) -> None:
        """A model's newest rollout is this one; None: it has none."""
        if rollout is None:
            self._rollouts.pop(model, None)
        else:
            self._rollouts[model] = rollout
        self._changed.set()

    async def keep(self) -> None:
        """Start and stop, for ever. One that is to serve another version is stopped first."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = {one.name: one for one in canary_processes(self._rollouts.values())}
            over = [name for name, one in self.running.items() if wanted.get(name) != one]
            if over:
                await self._stop(over)
            for name in over:
                del self.running[name]
            for name, one in wanted.items():
                if name not in self.running:
                    self._start(one)
                    self.running[name] = one
