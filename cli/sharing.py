"""Environments that keep their artifacts in one place, and what that place must not lose for any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rdv.cli.stored import registered
from rdv.errors import ConfigError, RdvError, Refused

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.manifest import Manifest


def sharers(project: Project) -> list[Project]:
    """The project in every other environment whose artifacts, or some of them, lie in a store of this one.

    Known by the places that rdv.toml names, and by what the store itself tells of who has published into it, which
    sees through two spellings of a place. ConfigError when a store lies within another one, Refused when somebody has
    published into it whom rdv.toml does not know.
    """
    from msgspec.structs import replace

    from rdv.backends import select
    from rdv.backends.registry_logged import logged_environments

    told = logged_environments(select.blobs(project)) - {project.env}
    if strangers := sorted(told - project.config.environments.keys()):
        name = strangers[0]
        raise Refused(
            f"the store of {project.env} also holds what environment {name!r} uses, which rdv.toml does not name",
            f"add [environments.{name}] with its registry, or delete @registry/{name}/ from the store if it is no more",
        )
    others = [replace(project, env=env) for env in sorted(project.config.environments) if env != project.env]
    return [other for other in others if _overlap(project, other) or other.env in told]


def require_whole(project: Project, others: Iterable[Project]) -> None:
    """Raise Refused when the registry of one of these environments lacks what its log in the store tells of.

    Such a registry was lost, or is another one than the one that was written to: what it needs is not known.
    """
    for one in (project, *others):
        with looking_at(project, one):
            lacking = _lacking(one)
        if lacking:
            raise Refused(
                f"the registry of {one.env} lacks {len(lacking)} keys that the store tells of, as {lacking[0]}, "
                "so what it needs is not known",
                f"`rdv registry rebuild --env {one.env}` shows them",
            )


def published(project: Project, others: Iterable[Project]) -> set[str]:
    """The names of the artifacts that other environments have a version of."""
    from rdv.backends import select

    names = set()
    for one in others:
        with looking_at(project, one):
            names |= {version.artifact for version in registered(select.registry(one))[0]}
    return names


def manifests_elsewhere(project: Project, others: Iterable[Project], names: set[str]) -> dict[str, Manifest]:
    """Manifests of other environments' versions that do not lie in this one's stores, where some of what made them may.

    names: the artifacts that do.
    """
    from rdv.backends import select

    found = {}
    for one in others:
        theirs = published(project, [one])
        with looking_at(project, one):
            store = select.artifacts(one)
            for name in sorted(theirs - names):
                manifest = store.manifest(name)
                if manifest is not None:
                    found[name] = manifest
    return found


def _lacking(project: Project) -> list[str]:
    """The keys that the store's log has, a rebuild could restore, and the registry does not have."""
    from rdv.backends import select
    from rdv.cli import rebuilding
    from rdv.releases.rebuild import MODELS, What

    there = select.registry_log(project).names(MODELS)
    if select.plain_registry(project).list(MODELS).keys() >= set(there):
        return []
    return [step.key for step in rebuilding.plan(project) if step.what is What.RESTORE]


@contextmanager
def looking_at(project: Project, other: Project) -> Iterator[None]:
    """Errors inside say for whose sake the other environment was looked at."""
    try:
        yield
    except RdvError as error:
        if other.env == project.env:
            raise
        what = f"{other.env} shares the store of {project.env} and cannot be looked at: {error.what}"
        raise type(error)(what, error.hint) from error


def _overlap(project: Project, other: Project) -> bool:
    """Whether two environments have a store in common."""
    from rdv.backends import select

    shared = False
    for mine in select.store_places(project):
        for theirs in select.store_places(other):
            outside, inside = mine.holds(theirs), theirs.holds(mine)
            if outside and inside:
                shared = True
            elif outside or inside:
                inner, outer = (other, project) if outside else (project, other)
                raise ConfigError(
                    f"the store of {inner.env} lies within that of {outer.env}, so it is not known whose a file is",
                    "give both one place, or places beside each other",
                )
    return shared
