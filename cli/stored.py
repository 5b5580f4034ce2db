"""What `rdv artifacts` shows and deletes: artifacts beside the versions that use them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rdv.cli.retention import age_days, collectable, released, tried

if TYPE_CHECKING:
    from rdv.backends.artifacts import ArtifactStore, Attempt
    from rdv.backends.ports import Registry
    from rdv.config import Project
    from rdv.manifest import Manifest
    from rdv.records import Pointer, Version

MODELS = "models/"
_READERS = 8
UNFINISHED_DAYS = 1.0
"""A write that was begun longer ago has no writer any more."""


@dataclass(frozen=True)
class Garbage:
    """One thing that nobody needs: an artifact, files of an attempt (`orphan`) that no manifest names, or a write that

    was never finished (`unfinished`, with the store's own name for it in `artifact`).
    """

    artifact: str
    what: str
    size_bytes: int | None
    created: str
    orphan: Attempt | None = None
    unfinished: bool = False

    def record(self) -> dict[str, Any]:
        """The garbage as one line of a table."""
        shown = {"artifact": self.artifact, "what": self.what, "size_bytes": self.size_bytes, "created": self.created}
        return shown


def registered(registry: Registry) -> tuple[list[Version], dict[str, Pointer]]:
    """Every published version, and each model's pointer by the model's name, by one listing of the registry."""
    from rdv.records import Pointer, Version, decode, model_key

    versions, pointers = [], {}
    for key, entry in registry.list(MODELS).items():
        model, kind = model_key(key)
        if kind == "version":
            versions.append(decode(Version, entry.value, key))
        elif kind == "pointer":
            pointers[model] = decode(Pointer, entry.value, key)
    return versions, pointers


def in_use(registry: Registry) -> tuple[list[Version], set[tuple[str, str]]]:
    """Every published version, and the (model, version) pairs that are served, may be at once, or are tried out."""
    from rdv.releases import rollout

    versions, pointers = registered(registry)
    rows = (rollout.current(registry, model) for model in pointers)
    return versions, released(pointers) | tried(row for row in rows if row is not None)


def manifests(store: ArtifactStore, prefix: str = "") -> dict[str, Manifest]:
    """The readable manifests of all artifacts that begin with a prefix, by name."""
    names = sorted(store.names(prefix))
    with ThreadPoolExecutor(_READERS, "rdv-manifests") as pool:
        found = zip(names, pool.map(store.manifest, names), strict=True)
        return {name: manifest for name, manifest in found if manifest is not None}


def artifact_records(project: Project, prefix: str) -> list[dict[str, Any]]:
    """A record an artifact: what it is, how large, and which version it is."""
    from rdv.backends import select

    versions, pointers = registered(select.registry(project))
    by_artifact = {one.artifact: one for one in versions}
    return [
        {
            "artifact": name,
            "kind": manifest.kind,
            "size_bytes": size_bytes(manifest),
            "created": manifest.created,
            "version": by_artifact[name].version if name in by_artifact else "",
            "pointer": role(by_artifact.get(name), pointers),
            "digest": manifest.digest(),
        }
        for name, manifest in manifests(select.artifacts(project), prefix).items()
    ]


def role(version: Version | None, pointers: Mapping[str, Pointer]) -> str:
    """`current` or `previous` when the version's model points to it, else nothing."""
    pointer = pointers.get(version.model) if version else None
    if version is None or pointer is None:
        return ""
    return {pointer.version: "current", pointer.previous: "previous"}.get(version.version, "")


def size_bytes(manifest: Manifest) -> int:
    """The size of an artifact's files together."""
    return sum(entry.size_bytes for entry in manifest.files)


def damage(project: Project, prefix: str) -> tuple[int, list[dict[str, str]]]:
    """How many artifacts were read again, and a record for every problem of one."""
    from rdv.backends import select

    store = select.artifacts(project)
    names = sorted(store.names(prefix))
    return len(names), [{"artifact": name, "problem": problem} for name in names for problem in store.verify(name)]


def garbage(project: Project, older_than_days: float) -> list[Garbage]:
    """What nobody needs any more and is older than so many days.

    What was brought from another environment is as old as its coming.
    """
    from rdv.backends import select

    store, now = select.artifacts(project), datetime.now(UTC)
    versions, needed = in_use(select.registry(project))
    needed |= pinned(project)
    keep = [
        one.artifact
        for one in versions
        if (one.model, one.version) in needed or (one.brought and age_days(one.brought, now) < older_than_days)
    ]
    every = manifests(store)
    found = [
        Garbage(name, every[name].kind, size_bytes(every[name]), every[name].created)
        for name in collectable(every, keep, now, older_than_days)
    ]
    found += [Garbage(one.name, f"attempt {one.attempt}", None, "", one) for one in stale(project, store)]
    left = store.unfinished(min(older_than_days, UNFINISHED_DAYS) * 86_400)
    return found + [Garbage(name, "unfinished write", None, "", unfinished=True) for name in left]


def pinned(project: Project) -> set[tuple[str, str]]:
    """The (model, version) pairs whose file a cluster brings to each worker of a job, which would not start without."""
    from rdv.backends import select

    brings = any(one.fetch == "nomad" for one in project.config.models.values())
    if not brings or not select.is_remote(project, "services"):
        return set()
    return {(one.model, one.pin.version) for one in select.services(project).look() if one.pin is not None}


def stale(project: Project, store: ArtifactStore) -> list[Attempt]:
    """Attempts that no manifest names; none while a run goes on, which may be uploading one of them."""
    from rdv.pipelines.every_run import Runs
    from rdv.pipelines.runs import OPEN

    return [] if any(run.state in OPEN for run in Runs(project).all()) else store.orphans()


def collect(project: Project, found: list[Garbage]) -> int:
    """Delete garbage, versions before their artifacts; what has been released meanwhile stays. How many went."""
    from rdv.backends import select
    from rdv.records import version_key

    store, registry = select.artifacts(project), select.registry(project)
    gone = 0
    for one in found:
        if one.unfinished:
            store.discard(one.artifact)
            gone += 1
            continue
        if one.orphan is not None:
            gone += bool(store.collect([one.orphan]))
            continue
        versions, needed = in_use(registry)
        using = [version for version in versions if version.artifact == one.artifact]
        if not any((version.model, version.version) in needed for version in using):
            for version in using:
                registry.delete(version_key(version.model, version.version))
            store.delete(one.artifact)
            gone += 1
    return gone
