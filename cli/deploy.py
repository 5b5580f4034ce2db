"""`rdv deploy MODEL` and `rdv rollback MODEL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.models import VERSION_WORDS
from rdv.errors import UsageError

if TYPE_CHECKING:
    from rdv.config import Project

TIMEOUT = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="Seconds to wait for all workers; 0: do not wait.",
)  # fmt: skip


@click.command(epilog=VERSION_WORDS)
@click.argument("model", type=options.MODEL)
@click.option("--version", help="Which version.  [default: newest; with --from the one that is served there]")
@click.option("--from", "source_env", default="", metavar="ENV", help="Bring it from this environment.")
@click.option("--canary", "canaries", type=click.IntRange(1, 99), help="Try it out with so many workers of its own.")
@click.option("--share", type=click.FloatRange(0, 1), help="Of the subjects that canaries answer.  [default: 0.1]")
@TIMEOUT
@options.project
@options.output
def deploy(
    model: str,
    version: str | None,
    source_env: str,
    canaries: int | None,
    share: float | None,
    timeout_s: float,
    project: Project,
    form: str,
) -> None:
    """Make a version of MODEL the one that is served.

    It waits until every worker says that it serves it. Workers load it beside the one that answers, try it, and swap;
    no request is lost. Exit code 7 when a worker cannot serve it, 6 when it takes too long; `rdv rollback` takes it
    back.

    With --canary a rollout begins: workers of the version score every request beside the others, and answer the
    requests of a share of subjects, always the same ones, however many workers there are. `rdv promote` makes it the
    one that is served, `rdv rollback` ends it. The same command again goes on with a rollout, or changes its share and
    the number of its canaries (on Nomad they are replaced: for some seconds the version that is served answers for
    them). Exit code 8 when a rollout of another version is on; without --canary, 7 while any is.

    With --from the version comes from another environment, by default the one that is served there: its bytes are
    copied by digest, verified, registered here with where they came from, and released. Nothing is trained or judged
    again. Killed in the middle, the same command goes on, and copies nothing twice. Exit code 1 when bytes are not as
    the manifest says, 8 when something else has its name here.
    """
    from rdv.cli import bringing, releasing, rolling

    if canaries is None and share is not None:
        raise UsageError("--share says how many subjects canaries answer, and there are none", "add `--canary 1`")
    if source_env:
        version = bringing.bring(project, source_env, model, version or "")
    if canaries is None:
        found = releasing.deploy(project, model, version or "newest", timeout_s)
    else:
        found = rolling.begin(project, model, version, canaries, share, timeout_s)
    output.document(found, form)


@click.command()
@click.argument("model", type=options.MODEL)
@TIMEOUT
@options.project
@options.output
def rollback(model: str, timeout_s: float, project: Project, form: str) -> None:
    """Go back to the version of MODEL that was served before.

    While a rollout is on it is that which ends: its canaries answer nobody any more, and nothing else changes. It waits
    until every worker says so. Workers still have it loaded: no build, no download, no validation.
    """
    from rdv.cli import rolling

    output.document(rolling.rollback(project, model, timeout_s), form)
