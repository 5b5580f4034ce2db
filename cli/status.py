"""`rdv status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output

if TYPE_CHECKING:
    from rdv.config import Project

GOALS = ["goal", "url", "accepted", "answered", "defaults", "errors", "open", "balances", "p50_ms", "p99_ms"]
SHARES = ["chosen_share", "late_share", "no_answer_share"]
MODELS = ["model", "tiers", "version", "replicas", "scored", *SHARES, "p50_ms", "p99_ms"]
ROLLOUTS = [
    "rollout", "version", "state", "share", "replicas", "subjects", "answers", "by_canary", "defaults", "p50_ms",
    "p99_ms",
]  # fmt: skip
BREAKERS = ["breaker", "gateway", "state", "opened", "refused", "reason"]
PROCESSES = ["process", "pid", "status", "restarts", "last_end"]


@click.command()
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=0.0, help="Wait so long for a ready gateway.")
@options.project
@options.output
def status(wait_s: float, project: Project, form: str) -> None:
    """Show goals, models, versions, latencies and the ledger.

    Shares are of the requests since the gateway began: answered with a model's score, scored too late, not scored.
    Latencies are from a request's acceptance, in milliseconds. Exit code 5 when nothing serves.
    """
    from rdv.cli import status_views, waiting

    found = waiting.ready_status(project, wait_s)
    if form in ("json", "jsonl"):
        return output.document(output.finite(found), form)
    output.section("goals", status_views.goal_records(found), GOALS, form)
    output.section("models", status_views.model_records(found), MODELS, form)
    rollouts = status_views.rollout_records(found)
    if rollouts:
        output.section("rollouts", rollouts, ROLLOUTS, form)
    output.section("circuit breakers", status_views.breaker_records(found), BREAKERS, form)
    output.section("processes", status_views.process_records(found), PROCESSES, form)
