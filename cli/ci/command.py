"""`rdv ci STAGE`: the stages of a service's way into production."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rdv.cli import options
from rdv.cli.groups import HintingGroup

if TYPE_CHECKING:
    from rdv.config import Project


@click.group(cls=HintingGroup)
def ci() -> None:
    """Run a stage of the way into production, as a pipeline does.

    Each stage types other commands of rdv, which it shows, and leaves a record in rdv-ci/ for the stages after it; one
    that comes out of order, or about another commit, says so. Variables: RDV_CI_STAGING and RDV_CI_PRODUCTION name the
    environments, RDV_CI_LOAD, RDV_CI_CANARY, RDV_CI_TRAIN and RDV_CI_BUILD add words to `rdv load`, `rdv deploy`,
    `rdv train` and `rdv image build`, RDV_CI_BASE names the base image. Where a place in Vault has jwt_env=VARIABLE,
    the job's id_token is all that it needs.
    """


def stage(name: str, help_text: str) -> None:
    """Add the command of a stage."""

    @ci.command(name, help=help_text)
    @options.project
    def command(project: Project) -> None:
        from rdv.cli.ci.stages import run
        from rdv.cli.output import note

        note(f"{name}: done, see {run(project, name).relative_to(project.folder)}")


stage("lint", "Look at everything that `rdv check` looks at.\n\nLeaves lint.xml.")
stage(
    "build",
    "Build the image of what is committed.\n\nNot when there is one of the same content, which has the same name, and"
    " not where the nodes of staging run no images.",
)
stage("test", "Run the project's tests, in the image where there is one.\n\nLeaves test.xml.")
stage(
    "train",
    "Train every model in staging.\n\nFor the period of what is committed, on a schedule for the one that is now. What"
    " is there by name is not made again; exit code 7 when the gate refuses one. Leaves report.md for a merge request.",
)
stage(
    "staging",
    "Bring staging to what is committed and trained.\n\nServing jobs as rdv.toml has them, versions by `rdv deploy`.",
)
stage(
    "contract",
    "Hold staging to what its consumers expect.\n\nRecords what the tests say that this service expects of others."
    " Leaves contract.xml. Exit code 8 when another pipeline has released something there in between.",
)
stage(
    "load",
    "Hold the answers of staging against the budget.\n\nThat of the goal, unless RDV_CI_LOAD says another. Leaves"
    " load-GOAL.xml and load-GOAL.html. Exit code 8 as for contract.",
)
stage(
    "canary",
    "Begin a canary in production of each version that staging serves.\n\nThe serving jobs are brought to what is"
    " committed first. Models that never answer, and the first version of a model, are released at once.",
)
stage("promote", "Serve what the canaries try out to everybody.")
stage("rollback", "Take back what the canary stage released.")
stage("unit", "Run the project's tests with the Python that runs rdv.\n\nLeaves unit.xml.")
stage("package", "Build the package of a library into dist/.")
stage(
    "publish",
    "Publish a library's package to the private index, and register its tasks.\n\nThe index and its login are in"
    " TWINE_REPOSITORY_URL, TWINE_USERNAME and TWINE_PASSWORD; the tasks become jobs of RDV_CI_PRODUCTION, if set.",
)
