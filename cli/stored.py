"""What `rdv artifacts` shows: artifacts beside the versions that use them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdv.backends.artifacts import ArtifactStore
    from rdv.backends.ports import Registry
    from rdv.config import Project
    from rdv.manifest import Manifest
    from rdv.records import Pointer, Version

MODELS = "models/"
_READERS = 8


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
