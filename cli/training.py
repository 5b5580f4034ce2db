"""What `rdv train` and `rdv runs wait` do with a request and with how a run ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rdv.cli import options, output
from rdv.cli.progress import progress
from rdv.cli.run_logs import log_chunks
from rdv.errors import Exit, NotFound, RdvError

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.pipelines.plan import PlanNode
    from rdv.pipelines.runs.records import RunRecord
    from rdv.pipelines.runs.runner import TrainRequest

RELEASE = "rdv.releases.pointer:deploy"
SHOWN = ("run", "model", "state", "points", "trained", "version", "released", "reasons")
TEST = "test_"


def request(**asked: Any) -> TrainRequest:
    """What the command was asked for; a model that says publish = "deploy" is released by our own deploy."""
    from rdv.pipelines.runs.runner import TrainRequest

    return TrainRequest(release=RELEASE, **asked)


def ask_if_large(project: Project, asked: TrainRequest, yes: bool) -> None:
    """Say how many points there are, and ask before very many of them."""
    from rdv.pipelines.runs.runner import count_points
    from rdv.pipelines.sweep import CONFIRM_ABOVE

    points = count_points(project, asked)
    if points > CONFIRM_ABOVE:
        options.confirm(f"Train {points:,} points of {asked.model}?", yes)


def carry_out(project: Project, asked: TrainRequest) -> RunRecord:
    """The record of a run that has been carried out here, its progress shown."""
    from rdv.pipelines.runs.runner import train

    with progress() as show:
        return train(project, asked, show).record


def detached(project: Project, asked: TrainRequest, wait: bool, form: str) -> None:
    """Begin a run that goes on by itself; say how to come back to it, or wait for it."""
    from rdv.pipelines.runs.detached import train_detached

    run = train_detached(project, asked)
    if wait:
        return wait_for(project, run, None, form)
    show_begun(run, asked.model, "running", "", form)


def on_cluster(project: Project, asked: TrainRequest, detach: bool, form: str) -> None:
    """Begin a run as a job of the environment's cluster; wait for it, unless told to say how to come back to it."""
    from rdv.pipelines.on_cluster import submit

    record = submit(project, asked)
    if detach:
        return show_begun(record.run, asked.model, record.state, f" --env {project.env}", form)
    wait_for(project, record.run, None, form)


def show_begun(run: str, model: str, state: str, env: str, form: str) -> None:
    """Show a run that goes on without this process, and how to come back to it."""
    output.document({"run": run, "model": model, "state": state}, form)
    commands = (f"`rdv {command} {run}{env}`" for command in ("logs -f", "runs wait", "runs cancel"))
    output.note(f"it goes on by itself: {', '.join(commands)}")


def wait_for(project: Project, run: str, timeout_s: float | None, form: str) -> None:
    """Wait for a run's end, its log on stderr when there is no limit, and show how it ended."""
    show_end(ended_run(project, run, timeout_s), form)


def ended_run(project: Project, run: str, timeout_s: float | None = None) -> RunRecord:
    """The record of a run once it has ended, its log on stderr meanwhile when there is no limit."""
    from rdv.pipelines.runs.every import Runs

    if timeout_s is None:
        try:
            for chunk in log_chunks(project, run, follow=True):
                sys.stderr.buffer.write(chunk)
                sys.stderr.flush()
        except NotFound as elsewhere:
            output.note(str(elsewhere))
    return Runs(project).wait(run, timeout_s)


def show_end(record: RunRecord, form: str) -> None:
    """Show how a run ended; an error with its exit code when it ended otherwise than well."""
    found = output.finite(record)
    output.document(summary(record) if form in output.TEXTS else found, form)
    if record.exit_code != Exit.OK:
        raise ended_badly(record)
    if not record.released:
        output.note(f"next: `rdv deploy {record.model}` makes {record.version} the one that is served")


def summary(record: RunRecord) -> dict[str, Any]:
    """What a person wants to know of a run's end: of the best point what was varied, of the metrics the test part's."""
    found = output.finite(record)
    varied = {text.partition("=")[0] for text in record.arguments.get("settings", "").split()}
    best = [part for part in record.best.split(",") if part.partition("=")[0] in varied]
    metrics = {name.removeprefix(TEST): value for name, value in record.metrics.items() if name.startswith(TEST)}
    return {**{name: found[name] for name in SHOWN}, "best": best, "on_unseen_rows": metrics}


def ended_badly(record: RunRecord) -> RdvError:
    """The error of a run that did not end well, with its exit code."""
    hint = "" if ";" in record.error else f"see `rdv logs {record.run}`"
    error = RdvError(f"run {record.run} of {record.model}: {record.error or record.state}", hint)
    error.exit_code = Exit.FAILED if record.exit_code is None else Exit(record.exit_code)
    return error


def show_plan(project: Project, asked: TrainRequest, form: str) -> None:
    """Show the tree of a run that is not made: each step done, to be run and why, or missing an input."""
    from rdv.pipelines.plan import nodes, plan

    root = plan(project, asked)
    if form in ("json", "jsonl"):
        output.document(output.finite(root), form)
        return
    output.rows(list(tree(root)), ["step", "standing", "why"], form)
    standings = [node.standing for node in nodes(root)]
    counts = (f"{standings.count(standing)} {standing}" for standing in dict.fromkeys(standings))
    output.note(f"{', '.join(counts)}; nothing was made")


def tree(node: PlanNode, depth: int = 0) -> Iterator[dict[str, str]]:
    """A record a step, what it needs below it and further to the right."""
    name = f"{'  ' * depth}{node.task} {node.point}".rstrip()
    yield {"step": name, "standing": node.standing, "why": "; ".join(node.why)}
    for below in node.needs:
        yield from tree(below, depth + 1)
