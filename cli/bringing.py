"""Bringing a version from one environment into another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rdv.cli.model_views import find_version
from rdv.cli.options import require_model
from rdv.cli.output import note
from rdv.errors import NotFound, UsageError

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.records import Version


def bring(project: Project, source_env: str, model: str, text: str) -> str:
    """Have a version of another environment in this one, byte for byte; its name.

    text: as `model_views.resolve` takes it, about the other environment; empty: the one that it serves.
    """
    from msgspec.structs import replace

    from rdv.backends import select
    from rdv.clock import SystemClock
    from rdv.releases.transfer import Side, transfer

    require_model(project, model)
    if source_env == project.env:
        raise UsageError(f"{source_env} is where it would go", "name another environment with --from")
    if source_env != "local" and source_env not in project.config.environments:
        known = ", ".join(sorted({"local", *project.config.environments}))
        raise UsageError(f"rdv.toml has no environment {source_env!r}", f"it has {known}")
    source = replace(project, env=source_env)
    version = find_there(source, model, text)
    sides = [Side(one.env, select.artifacts(one)) for one in (source, project)]
    done = transfer(version, sides[0], sides[1], select.registry(project), SystemClock())
    files = f"{done.copied} files ({done.size_bytes:,} bytes) copied, {done.there} there already, all verified"
    note(f"{model} {version.version} is in {project.env} as it is in {source_env}: {files}")
    return version.version


def find_there(source: Project, model: str, text: str) -> Version:
    """A version of the other environment; NotFound says where."""
    try:
        return find_version(source, model, text or "current")
    except NotFound as error:
        hint = f"see `rdv models list {model} --env {source.env}`"
        if not text:
            raise NotFound(f"{source.env} serves no version of {model}", f"name one with --version; {hint}") from None
        raise NotFound(f"{error.what} in {source.env}", hint) from None
