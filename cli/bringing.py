"""Bringing a version from one environment into another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rdv.cli.model_views import find_version
from rdv.cli.output import note
from rdv.errors import UsageError

if TYPE_CHECKING:
    from rdv.config import Project


def bring(project: Project, source_env: str, model: str, text: str) -> str:
    """Have a version of another environment in this one, byte for byte; its name.

    text: as `model_views.resolve` takes it, about the other environment; empty: the one that it serves.
    """
    from msgspec.structs import replace

    from rdv.backends import select
    from rdv.releases.transfer import transfer

    if source_env == project.env:
        raise UsageError(f"{source_env} is where it would go", "name another environment with --from")
    if source_env != "local" and source_env not in project.config.environments:
        known = ", ".join(sorted(project.config.environments))
        raise UsageError(f"rdv.toml has no environment {source_env!r}", f"it has {known}")
    source = replace(project, env=source_env)
    version = find_version(source, model, text)
    copied = transfer(version, select.artifacts(source), select.artifacts(project), select.registry(project))
    said = "was copied" if copied else "is there already"
    note(f"{model} {version.version} {said}, byte for byte as in {source_env}")
    return version.version
