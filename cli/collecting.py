"""What `rdv artifacts gc` finds and deletes: what no environment that uses the store needs any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rdv.cli import sharing
from rdv.cli.retention import age_days, collectable, lineage, released, tried
from rdv.cli.stored import manifests, registered, size_bytes

if TYPE_CHECKING:
    from rdv.backends.artifacts import Attempt
    from rdv.backends.ports import Registry
    from rdv.config import Project
    from rdv.records import Version

UNFINISHED_DAYS = 1.0
"""A write that was begun longer ago has no writer any more."""


@dataclass(frozen=True)
class Garbage:
    """One thing that nobody needs: an artifact, files of an attempt (`orphan`) that no manifest names, a write that

    was never finished (`unfinished`, with the store's own name for it in `artifact`), or only a version's record here
    (`record_of`), whose artifact another environment uses.
    """

    artifact: str
    what: str
    size_bytes: int | None
    created: str
    orphan: Attempt | None = None
    unfinished: bool = False
    record_of: Version | None = None

    def record(self) -> dict[str, Any]:
        """The garbage as one line of a table."""
        shown = {"artifact": self.artifact, "what": self.what, "size_bytes": self.size_bytes, "created": self.created}
        return shown


def garbage(project: Project, older_than_days: float) -> list[Garbage]:
    """What nobody needs any more and is older than so many days.

    What was brought from another environment is as old as its coming. What another environment has in the same store
    stays for it to collect; so does all of which it cannot be known, by the errors of `sharing`.
    """
    from rdv.backends import select

    others = sharing.sharers(project)
    sharing.require_whole(project, others)
    store, now = select.artifacts(project), datetime.now(UTC)
    versions, needed = in_use(select.registry(project))
    needed |= pinned(project)
    keep = [
        one.artifact
        for one in versions
        if (one.model, one.version) in needed or (one.brought and age_days(one.brought, now) < older_than_days)
    ]
    every = manifests(store)
    known = every | sharing.manifests_elsewhere(project, others, set(every))
    theirs = lineage(known, sharing.published(project, others))
    mine = [name for name in collectable(known, keep, now, older_than_days) if name in every]
    found = [
        Garbage(name, every[name].kind, size_bytes(every[name]), every[name].created)
        for name in mine
        if name not in theirs
    ]
    for one in versions:
        if one.artifact in theirs and one.artifact in mine:
            what = f"record of version {one.version}"
            found.append(Garbage(one.artifact, what, None, every[one.artifact].created, record_of=one))
    found += [Garbage(one.name, f"attempt {one.attempt}", None, "", one) for one in stale(project, others)]
    left = store.unfinished(min(older_than_days, UNFINISHED_DAYS) * 86_400)
    return found + [Garbage(name, "unfinished write", None, "", unfinished=True) for name in left]


def in_use(registry: Registry) -> tuple[list[Version], set[tuple[str, str]]]:
    """Every published version, and the (model, version) pairs that are served, may be at once, or are tried out."""
    from rdv.releases import rollout

    versions, pointers = registered(registry)
    rows = (rollout.current(registry, model) for model in pointers)
    return versions, released(pointers) | tried(row for row in rows if row is not None)


def pinned(project: Project) -> set[tuple[str, str]]:
    """The (model, version) pairs whose file a cluster brings to each worker of a job, which would not start without."""
    from rdv.backends import select

    brings = any(one.fetch == "nomad" for one in project.config.models.values())
    if not brings or not select.is_remote(project, "services"):
        return set()
    return {(one.model, one.pin.version) for one in select.services(project).look() if one.pin is not None}


def stale(project: Project, others: list[Project]) -> list[Attempt]:
    """Attempts that no manifest names; none while a run goes on, here or there, which may be uploading one of them."""
    from rdv.backends import select
    from rdv.pipelines.runs.every import Runs
    from rdv.pipelines.runs.records import OPEN

    for one in (project, *others):
        with sharing.looking_at(project, one):
            if any(run.state in OPEN for run in Runs(one).all()):
                return []
    return select.artifacts(project).orphans()


def collect(project: Project, found: list[Garbage]) -> int:
    """Delete garbage, versions before their artifacts; what has been released meanwhile stays. How many went."""
    from rdv.backends import select

    store, registry = select.artifacts(project), select.registry(project)
    others = sharing.sharers(project)
    gone = 0
    for one in found:
        if one.unfinished:
            store.discard(one.artifact)
            gone += 1
        elif one.orphan is not None:
            gone += bool(store.collect([one.orphan]))
        elif _unregister(registry, one):
            gone += 1
            if one.record_of is None and one.artifact not in sharing.published(project, others):
                store.delete(one.artifact)
    return gone


def _unregister(registry: Registry, one: Garbage) -> bool:
    """Take an artifact's versions out of the registry, unless one of them is needed by now; whether it was done."""
    from rdv.records import version_key

    versions, needed = in_use(registry)
    using = [version for version in versions if version.artifact == one.artifact]
    if any((version.model, version.version) in needed for version in using):
        return False
    for version in using:
        registry.delete(version_key(version.model, version.version))
    return True
