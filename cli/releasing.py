"""Moving a model's pointer and seeing that its workers follow."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Any

from rdv.cli.model_views import find_version
from rdv.cli.output import note
from rdv.errors import CorruptArtifact, NobodyServes, Unreachable

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.records import Release, Version


def deploy(project: Project, model: str, text: str, timeout_s: float) -> dict[str, Any]:
    """Release a version whose bytes are as its manifest says; what came of it. text: as `model_views.resolve` takes."""
    from rdv.backends import select
    from rdv.clock import SystemClock
    from rdv.releases import pointer

    version = verified(project, model, find_version(project, model, text))
    release = pointer.deploy(select.registry(project), model, version.version, who(), SystemClock())
    return followed(project, model, release, timeout_s)


def verified(project: Project, model: str, version: Version) -> Version:
    """The version, if its bytes are as its manifest says; else CorruptArtifact."""
    from rdv.backends import select

    problems = select.artifacts(project).verify(version.artifact)
    if problems:
        raise CorruptArtifact(f"{model} {version.version}: {problems[0]}", "train it again, or deploy another version")
    return version


def undo(project: Project, model: str, timeout_s: float) -> dict[str, Any]:
    """Release the version that was served before; what came of it."""
    from rdv.backends import select
    from rdv.clock import SystemClock
    from rdv.releases import pointer

    release = pointer.rollback(select.registry(project), model, who(), SystemClock())
    return followed(project, model, release, timeout_s)


def followed(project: Project, model: str, release: Release, timeout_s: float) -> dict[str, Any]:
    """A release as a record, once the workers serve it, or at once when nothing runs or nobody wants to wait.

    Unreachable when what has to be asked does not answer: the release stands, and workers follow it all the same.
    """
    from rdv.serving.rolling import roll, rolls
    from rdv.serving.status import wait_until_served

    found: dict[str, Any] = {
        "model": model, "version": release.version, "instead_of": release.previous, "kind": release.kind,
        "serial": release.serial, "at": release.at, "replicas": 0, "waited_s": None,
    }  # fmt: skip
    if timeout_s:
        try:
            if rolls(project, model):
                roll(project, model, release.version, timeout_s, note)
            served = wait_until_served(project, model, release.version, timeout_s)
        except NobodyServes as nobody:
            note(f"released; {nobody}")
        except Unreachable as error:
            again = f"release {release.serial} stands; `rdv deploy {model} --version {release.version}` waits for it"
            raise Unreachable(error.what, again) from error
        else:
            found |= {"replicas": len(served.replicas), "waited_s": round(served.waited_s, 3)}
    return found


def who() -> str:
    """Who acts, for the release log: the user's name, or else number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
