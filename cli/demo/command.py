"""`rdv demo`."""

from __future__ import annotations

from pathlib import Path

import click

from rdv.cli import options


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("rdv-demo"))
@click.option("--keep", is_flag=True, help="Leave it serving, and print how to ask it and how to stop it.")
@click.option("--requests", type=click.IntRange(500, 5_000), default=5_000, show_default=True, help="Live requests.")
@click.option("--rate", type=click.FloatRange(20, 2_000), default=200.0, show_default=True, help="Requests a second.")
@options.output
def demo(folder: Path, keep: bool, requests: int, rate: float, form: str) -> int:
    """Train, publish, serve, swap, break and report on real data.

    In FOLDER (rdv-demo unless named; an earlier demo's is replaced): does a person see a doctor within the year? A
    champion, a challenger, a canary model and a decoy; 5,000 held-out cases as live traffic; a better version trained
    and swapped in meanwhile; the champion's worker killed, and the next one stopped. It fails when a request is lost,
    the ledger does not balance, or the faults leave no trace.
    """
    from rdv.cli.demo.run import play

    return play(folder.absolute(), requests, rate, keep, form)
