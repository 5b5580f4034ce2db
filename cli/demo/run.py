"""The demo from its first step to its verdict."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rdv.cli import output, recorded
from rdv.cli.demo import data as demo_data
from rdv.cli.demo import project as demo_project
from rdv.cli.demo import tables as demo_tables
from rdv.cli.demo import verdict as demo_verdict
from rdv.cli.demo.commands import Commands
from rdv.cli.demo.project import CANARY, CHALLENGER, CHAMPION, FIRST_GRIDS, GOAL
from rdv.cli.demo.scenario import Scenario, Story
from rdv.cli.demo.verdict import Line
from rdv.errors import RdvError, TimedOut

if TYPE_CHECKING:
    from rdv.cli.demo.data import Data
    from rdv.cli.demo.traffic import Traffic
    from rdv.cli.report.page import Sheet
    from rdv.config import Project

READY_S = 60.0
RECORDED_S = 15.0
PAGE = "report.html"
ROLES = {CHAMPION: "champion", CHALLENGER: "challenger", CANARY: "canary model"}


@dataclass
class Telling:
    """Says what happens, with the seconds since the beginning."""

    began: float

    def __call__(self, text: str) -> None:
        output.note(f"{time.monotonic() - self.began:6.1f} s  {text}")


def play(folder: Path, requests: int, rate: float, keep: bool, form: str) -> int:
    """The whole demo; its exit code. What it holds and measures goes to stdout, its story to stderr."""
    say = Telling(time.monotonic())
    data = demo_data.load()
    count = len(data.training) + len(data.held_out)
    say(f"{count:,} real cases: {len(data.training):,} to train on, {len(data.held_out):,} held out as live traffic")
    demo_project.build(folder, data)
    say(f"$ rdv init {folder.name}   (with rdv.toml, schema and data of the demo)")
    commands = Commands(folder, say)
    try:
        return asyncio.run(_play(folder, data, requests, rate, commands, keep, form, say))
    finally:
        commands.stop()


async def _play(
    folder: Path, data: Data, requests: int, rate: float, commands: Commands, keep: bool, form: str, say: Telling
) -> int:
    from rdv.settings import load_project

    project = load_project(folder)
    versions = await train_first(commands, say)
    pid = commands.serve()
    url = await ready(project, commands)
    say(f"  a gateway, a worker for each of {len(ROLES)} models and a decoy serve {url}")
    host, port = urlsplit(url).hostname, urlsplit(url).port
    assert host is not None
    assert port is not None
    scenario = Scenario(project, commands, host, port, say)
    rows = data.held_out[:requests]
    say(f"  {len(rows):,} requests follow, {rate:g} a second")
    traffic = await scenario.play(rows, rate, versions[CHAMPION])
    say("  all requests are sent")
    lines = await verdict(project, traffic, scenario.story)
    outcomes = outcomes_by_id(traffic, rows)
    if keep:
        commands.leave()
    else:
        commands.stop()
    sheets = tables(project, outcomes, scenario.story)
    show(project, lines, sheets, scenario.story, form)
    say(f"  the same with pictures: {folder / PAGE}")
    if keep:
        invite(folder, url, rows[0], pid)
    if broken := demo_verdict.broken(lines):
        raise RdvError(f"the demo did not hold: {'; '.join(broken)}", f"see {folder / '.rdv' / 'serve.log'}")
    say("everything held")
    return 0


async def train_first(commands: Commands, say: Telling) -> dict[str, str]:
    """Train every model over its first grid and release the best; the versions by model."""
    versions = {}
    for model, grid in FIRST_GRIDS.items():
        say(f"  the {ROLES[model]}:")
        parameters = [part for text in grid for part in ("-P", text)]
        trained = await commands.run("train", model, *parameters)
        await commands.run("deploy", model, "--version", trained["version"])
        versions[model] = trained["version"]
    return versions


async def ready(project: Project, commands: Commands) -> str:
    """The gateway's address once every model serves and a score has gone round."""
    from rdv.cli.demo.faults import until, worker
    from rdv.cli.waiting import ready_status

    def all_there() -> bool:
        commands.check_serving()
        return all(worker(project, model) is not None for model in ROLES)

    if not await until(all_there, READY_S):
        raise TimedOut(f"not every worker was ready after {READY_S:g} s", "see .rdv/serve.log in the demo's folder")
    return str(ready_status(project, READY_S, commands.check_serving).gateways[0]["url"])


async def verdict(project: Project, traffic: Traffic, story: Story) -> list[Line]:
    """Every line of the ledger and every promise, once the recorder has written what it was told."""
    from rdv.cli.demo.faults import until
    from rdv.cli.status_views import goal_ledgers
    from rdv.serving.recording.decoy import journal_folder
    from rdv.serving.recording.events import events_topic
    from rdv.serving.recording.match import match
    from rdv.serving.status import read_status

    ids = [str(one.answer.get("request_id", "")) for one in traffic.exchanges if one.status == demo_verdict.OK]
    folders = journal_folder(project.state, GOAL), journal_folder(project.state, events_topic(GOAL))

    def written() -> bool:
        found = match(ids, *folders)
        return not found.not_kept and not found.not_told

    await until(written, RECORDED_S)
    counted: dict[str, int] = {name: 0 for name in ("accepted", "answered", "defaults", "errors")}
    for one in goal_ledgers(project, GOAL):
        counted = {name: value + int(one[name]) for name, value in counted.items()}
    decoy = [view["bus"][GOAL]["decoy"] for view in read_status(project).gateways]
    dropped = sum(int(one["dropped"]) + int(one["skipped"]) for one in decoy)
    answers = [(str(one.answer.get("request_id", "")), one.status) for one in traffic.exchanges]
    chosen = [(str(one.answer.get("model")), str(one.answer.get("version"))) for one in traffic.exchanges]
    return [
        *demo_verdict.ledger(traffic.sent, answers, counted, match(ids, *folders), dropped),
        *demo_verdict.swap(story.versions, chosen, CHAMPION),
        *demo_verdict.faults(story.faults),
    ]


def outcomes_by_id(traffic: Traffic, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What came of the case of each answered request, by request id."""
    answered = (one for one in traffic.exchanges if one.status == demo_verdict.OK)
    return {str(one.answer["request_id"]): rows[one.row][demo_data.LABEL] for one in answered}


def tables(project: Project, outcomes: Mapping[str, int], story: Story) -> list[Sheet]:
    """What the requests, their outcomes and the replay of the journal show."""
    from rdv.cli.report.facts import facts
    from rdv.serving.recording.replay import replay

    goal = project.config.goals[GOAL]
    events = [event for event in recorded.events(project, GOAL, len(outcomes) * 2) if event.id in outcomes]
    assert isinstance(goal.default, int | float)
    found = facts(GOAL, goal.answer, events)
    reports = [replay(project, CHAMPION, version) for version in story.versions] + [replay(project, CHALLENGER)]
    return [
        demo_tables.who_answered(events),
        demo_tables.model_lines(found),
        demo_tables.pair_lines(found),
        demo_tables.how_right(events, outcomes, float(goal.default)),
        demo_tables.replayed(reports),
    ]


def show(project: Project, lines: Sequence[Line], sheets: Sequence[Sheet], story: Story, form: str) -> None:
    """Print every table, and write the page."""
    from rdv.cli.report.command import write_report
    from rdv.cli.report.page import Sheet

    records = [line.record() for line in lines]
    in_text = [Sheet("The ledger", "Every accepted request ends exactly once.", records), *sheets]
    extra = [sheet for sheet in sheets if sheet.title.startswith(("Were", "Replay"))]
    write_report(project, GOAL, project.folder / PAGE, 10**6, story.marks, extra, records)
    if form in output.TEXTS:
        for sheet in in_text:
            output.section(f"{sheet.title}\n{sheet.text}\n", sheet.records, list(sheet.records[0]), form)
        return
    output.document({sheet.title: sheet.records for sheet in in_text} | {"page": str(project.folder / PAGE)}, form)


def invite(folder: Path, url: str, row: Mapping[str, Any], pid: int) -> None:
    """Say how to ask what is left serving, and how to stop it."""
    body = json.dumps(demo_data.request(dict(row)))
    output.note(f"ask it:   curl -s {url}/v1/goals/{GOAL}/score -H 'content-type: application/json' -d '{body}'")
    output.note(f"look:     rdv status --project {folder}")
    output.note(f"stop it:  kill {pid}")
