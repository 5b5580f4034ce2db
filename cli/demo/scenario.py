"""What happens while the demo's traffic flows: a better version, a killed worker, a stopped worker."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rdv.cli.demo.data import request
from rdv.cli.demo.faults import answered_by, strike, until
from rdv.cli.demo.project import BETTER_GRID, CHAMPION, GOAL
from rdv.cli.demo.traffic import Traffic
from rdv.cli.report.page import Mark
from rdv.errors import StepFailed, TimedOut

if TYPE_CHECKING:
    from rdv.cli.demo.commands import Commands
    from rdv.cli.demo.data import Row
    from rdv.cli.demo.verdict import Fault
    from rdv.config import Project

CALM = 0.12
"""Share of the requests that are sent before the first thing happens, and between two of them."""
STEP_S = 60.0
PEACE_S = 5.0


@dataclass
class Story:
    """What was done and when: marks for the time axis, faults with their traces, the champion's versions in order."""

    marks: list[Mark] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    def mark(self, text: str) -> None:
        """Put a flag on this moment."""
        self.marks.append(Mark(time.time(), text))


class Scenario:
    """Sends rows as live traffic and makes things happen meanwhile."""

    def __init__(self, project: Project, commands: Commands, host: str, port: int, say: Callable[[str], None]) -> None:
        self._project, self._commands, self._say = project, commands, say
        self._host, self._port = host, port
        self.story = Story()

    async def play(self, rows: Sequence[Row], rate: float, champion: str) -> Traffic:
        """The traffic after its end. champion: the version that answers at its beginning."""
        self.story.versions.append(champion)
        bodies = [json.dumps(request(row)).encode() for row in rows]
        traffic = Traffic(self._host, self._port, f"/v1/goals/{GOAL}/score", bodies, rate)
        async with asyncio.TaskGroup() as group:
            group.create_task(traffic.run(), name="traffic")
            group.create_task(self._events(traffic), name="events")
        return traffic

    async def _events(self, traffic: Traffic) -> None:
        try:
            await self._pass(traffic)
            await self._swap(traffic)
            for number, text in ((signal.SIGKILL, "is killed"), (signal.SIGSTOP, "is stopped")):
                await self._pass(traffic)
                await self._strike(traffic, number, text)
        finally:
            traffic.over.set()

    async def _swap(self, traffic: Traffic) -> None:
        self._say(f"  a better version, while {traffic.rate:g} requests a second are answered:")
        parameters = [part for text in BETTER_GRID for part in ("-P", text)]
        trained = await self._commands.run("train", CHAMPION, *parameters)
        began = time.time()
        await self._commands.run("deploy", CHAMPION, "--version", trained["version"])
        self.story.versions.append(trained["version"])
        if not await until(lambda: answered_by(CHAMPION, traffic, began), STEP_S):
            raise TimedOut(f"{CHAMPION} does not answer after the swap", "see .rdv/serve.log")

    async def _strike(self, traffic: Traffic, number: int, text: str) -> None:
        name = signal.Signals(number).name
        self._say(f"$ kill -{name.removeprefix('SIG')} <the worker of {CHAMPION}>")
        self.story.mark(f"the worker of {CHAMPION} {text}")
        fault = await strike(self._project, CHAMPION, number, traffic)
        self.story.faults.append(fault)
        if fault.healed_s is None:
            raise StepFailed(f"{CHAMPION} did not come back after {name}", "see .rdv/serve.log")
        self.story.mark(f"{CHAMPION} answers again")
        self._say(f"  {fault.below} answers came from a lower tier or the default; back after {fault.healed_s:.1f} s")

    async def _pass(self, traffic: Traffic) -> None:
        """Let some requests pass in peace; the server's end is noticed."""
        self._commands.check_serving()
        wanted = traffic.sent + traffic.total * CALM
        await until(lambda: traffic.sent >= min(wanted, traffic.total), PEACE_S)
