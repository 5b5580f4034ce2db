"""`rdv contract publish | list | verify | withdraw`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup
from rdv.errors import UsageError

if TYPE_CHECKING:
    from rdv.config import Project

LISTED = ["goal", "consumer", "number", "interactions", "digest"]
PROVIDER = click.option("--provider", default="", metavar="NAME", help="Of this service, which the project calls.")


@click.group(cls=HintingGroup)
def contract() -> None:
    """Record what consumers expect of a goal, and hold it to that.

    The same for what this project expects of services that it calls: `--provider`.
    """


@contract.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.project
@options.output
def publish(file: Path, project: Project, form: str) -> None:
    """Record the pact in FILE in the artifact store, as what its consumer expects from now on.

    A consumer's own tests make the file, and its pipeline publishes it. Earlier ones stay where they are; the newest of
    a consumer and goal counts. The same once more changes nothing. A pact whose consumer is this project says what
    another service is expected to do for it, such as one that a lookup calls: `--provider` of the other commands.
    """
    from rdv.cli import contracting

    output.rows(contracting.publish(project, file), [*LISTED, "new"], form)


@contract.command(name="list")
@click.option("--goal", type=options.GOAL, default="", help="Of this goal alone.")
@PROVIDER
@options.project
@options.output
def list_(goal: str, provider: str, project: Project, form: str) -> None:
    """List the contracts that count: of each consumer the newest."""
    from rdv.cli import contracting

    output.rows(contracting.listed(project, goal, provider), LISTED, form, empty="no consumer has published a contract")


@contract.command()
@click.option("--goal", type=options.GOAL, default="", help="Of this goal alone.")
@click.option("--from", "source", type=click.Path(path_type=Path), help="A pact file or a folder of them instead.")
@click.option("--url", default="", help="A gateway's address. [one of the environment that runs]")
@click.option("--schema-only", is_flag=True, help="Ask no gateway: look at the schemas in the project's folder alone.")
@PROVIDER
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML, a case an interaction, here.")
@options.project
@options.output
def verify(
    goal: str, source: Path | None, url: str, schema_only: bool, provider: str, junit: Path | None, project: Project,
    form: str,
) -> None:  # fmt: skip
    """Hold the schemas and a running gateway to what consumers expect.

    That is what is in the artifact store and in contracts/consumers. The schemas come first: a request that a consumer
    sends must fit, a field that it reads must be answered. Then each request is sent to the gateway, and the answers
    are compared as the consumer's matching rules say. Exit code 7 names the consumer and the field. With --provider it
    is another service at --url that is held to what the store, contracts/own or --from says that projects expect of it.
    """
    from rdv.cli import contracting

    if provider and (goal or schema_only):
        raise UsageError(f"{provider} has neither goals nor schemas here", "leave --goal and --schema-only out")
    if provider:
        contracting.verify_other(project, provider, source, url, junit, form)
        return
    contracting.verify(project, goal, source, url, schema_only, junit, form)


@contract.command()
@click.argument("consumer")
@click.option("--goal", type=options.GOAL, default="", help="Which goal; need not be named when there is one.")
@PROVIDER
@options.yes
@options.project
@options.output
def withdraw(consumer: str, goal: str, provider: str, yes: bool, project: Project, form: str) -> None:
    """Have CONSUMER expect nothing of a goal, or of another service, any more."""
    from rdv.cli import contracting

    options.confirm(f"Withdraw the contract of {consumer}?", yes)
    output.document(contracting.withdraw(project, consumer, goal, provider), form)
