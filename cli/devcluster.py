"""`rdv dev-cluster up|down|status|env`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup

if TYPE_CHECKING:
    from rdv.backends.devcluster.cluster import DevCluster

COLUMNS = ["server", "address", "pid", "ready"]
FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path), help="Where its data lies. [~/.cache/rdv/dev-cluster]"
)


@click.group("dev-cluster", cls=HintingGroup)
def dev_cluster() -> None:
    """Run Nomad, Consul, Vault and S3 on this machine.

    Two Nomads: one for batch jobs, one for services; HDFS and Docker if asked for. Access control is on everywhere.
    The environments dev, staging and production are set up on them, each with its own namespaces, keys, bucket and
    tokens. `make servers` builds the servers.
    """


@dev_cluster.command()
@click.option("--with", "extras", default="", metavar="hdfs,docker", help="What to run beside the others.")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), help="What the exec driver's tasks see."
)
@FOLDER
@options.output
def up(extras: str, root: Path | None, folder: Path | None, form: str) -> None:
    """Start what does not run, and leave it running; mends rights and names that are missing.

    With --root, tasks of Nomad's exec driver see a folder that `rdv image root` has made instead of this machine.
    """
    from rdv.cli.devcluster_up import bring_up

    cluster = of(folder)
    bring_up(cluster, [one.strip() for one in extras.split(",") if one.strip()], root)
    output.rows(cluster.status(), COLUMNS, form)


@dev_cluster.command()
@FOLDER
def down(folder: Path | None) -> None:
    """End every job and server, and delete all their data: nothing stays on this machine."""
    cluster = of(folder)
    output.note(f"{cluster.folder}: gone" if cluster.down() else f"{cluster.folder}: there was nothing")


@dev_cluster.command()
@FOLDER
@options.output
def status(folder: Path | None, form: str) -> None:
    """Show every server, and whether it is ready; ends with 5 when one is not."""
    from rdv.errors import Unreachable

    cluster = of(folder)
    found = cluster.status()
    output.rows(found, COLUMNS, form, empty="no server runs")
    if not found or not all(one["ready"] for one in found):
        missing = ", ".join(one["server"] for one in found if not one["ready"]) or "the dev cluster"
        raise Unreachable(f"not ready: {missing}", "type: rdv dev-cluster up")


@dev_cluster.command()
@FOLDER
def env(folder: Path | None) -> None:
    """Print the environments for rdv.toml: `rdv dev-cluster env >> rdv.toml`."""
    click.echo(of(folder).environments_toml(), nl=False)


@dev_cluster.command()
@click.argument("paths", metavar="GROUP/PROJECT...", nargs=-1, required=True)
@click.option("--issuer", required=True, help="Who signs the id_tokens: the address of the GitLab.")
@click.option("--jwks", default="", help="Where its public keys are.  [ISSUER/oauth/discovery/keys]")
@click.option("--audience", default="rdv", show_default=True, help="For whom: RDV_CI_AUDIENCE of the pipeline.")
@FOLDER
def gitlab(paths: tuple[str, ...], issuer: str, jwks: str, audience: str, folder: Path | None) -> None:
    """Have Vault take the id_tokens of the jobs of these projects, and of no others.

    Prints the variables for their .gitlab-ci.yml, in which there is no secret. Jobs of staging may come from every
    branch, jobs of production from protected tags only.
    """
    cluster = of(folder)
    cluster.up()
    found = cluster.take_gitlab(issuer, jwks or f"{issuer.rstrip('/')}/oauth/discovery/keys", paths, audience)
    for name, value in found.items():
        click.echo(f'  {name}: "{value}"')


def of(folder: Path | None) -> DevCluster:
    """The cluster in a folder, the user's own unless told otherwise."""
    from rdv.backends.devcluster.cluster import DevCluster, usual_folder

    return DevCluster(folder or usual_folder(os.environ), dict(os.environ), say=output.note)
