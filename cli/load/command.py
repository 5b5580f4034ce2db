"""`rdv load`."""

from __future__ import annotations

from pathlib import Path

import click

from rdv.cli import options


@click.command()
@click.option("--goal", type=options.GOAL, default="", help="Which goal; need not be named when there is one.")
@click.option("--rate", type=float, required=True, help="Requests a second.")
@click.option("--for", "duration", required=True, metavar="TIME", help="How long: 500ms, 30s, 5m.")
@click.option("--budget", default="", metavar="LIMITS", help="What must hold: p99=50ms,max=1s,errors=0,defaults=0.1%.")
@click.option("--url", default="", help="A gateway's address. [the gateways of the environment that run]")
@click.option("--connections", type=click.IntRange(1, 10_000), default=128, show_default=True, help="How many.")
@click.option("--requests", "file", type=click.Path(path_type=Path), help="JSON lines to send. [made from the schema]")
@click.option("--warm-up", default="1s", show_default=True, metavar="TIME", help="Before it, uncounted; 0 for none.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the requests that are made.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML, a case for each limit, here.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with pictures here.")
@options.settings
@options.output
def load(
    goal: str, rate: float, duration: str, budget: str, url: str, connections: int, file: Path | None, warm_up: str,
    seed: int, junit: Path | None, html: Path | None, folder: Path | None, env: str, overrides: dict[str, str],
    form: str,
) -> None:  # fmt: skip
    """Send GOAL requests at a steady rate, and hold the answers to a budget.

    Requests leave at fixed moments, whether or not earlier ones were answered, and a latency counts from that moment:
    a server that stalls is charged for all that had to wait. Without an answer a latency is infinite. A budget limits
    latencies (p50, p99, p99.9, max), and by count or share: errors (no answer, or another status than 200), defaults,
    degraded (not of the first tier). Exit code 7 outside the budget, 5 when nobody answers, 1 when this machine could
    not hold the rate, so that nothing is known. With --url and --goal no project is needed: the schema is the
    gateway's own.
    """
    from rdv.cli.load import run as load_run

    plan = load_run.Plan.of(goal, rate, duration, budget, warm_up, connections, seed, file)
    load_run.run(plan, load_run.find(plan, url, folder, env, overrides), form, junit, html)
