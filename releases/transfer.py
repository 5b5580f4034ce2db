"""A version copied from one environment into another: its bytes by digest, then its record. Nothing is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

from rdv.backends.ports import Registry
from rdv.errors import CorruptArtifact, LostRace
from rdv.manifest import Manifest
from rdv.records import Version, decode, encode, version_key


class Store(Protocol):
    """What is needed of an artifact store."""

    def manifest(self, name: str) -> Manifest | None: ...
    def fetch(self, manifest: Manifest, path: str, into: Path) -> Path: ...
    def publish(self, manifest: Manifest, folder: Path) -> Manifest: ...
    def verify(self, name: str) -> list[str]: ...


def transfer(version: Version, source: Store, target: Store, registry: Registry) -> bool:
    """Have a version in the target store and registry; False when it is there already, and whole.

    Raises CorruptArtifact when a byte differs on the way, LostRace when either name is taken by something else. Killed
    in the middle, the same call finishes: the artifact exists before the record that names it.
    """
    copied = _copy_artifact(version, source, target)
    problems = target.verify(version.artifact)
    if problems:
        what = f"the copy of {version.version} is not whole: {problems[0]}"
        raise CorruptArtifact(what, "see `rdv artifacts verify`")
    return _register(version, registry) or copied


def _copy_artifact(version: Version, source: Store, target: Store) -> bool:
    there = target.manifest(version.artifact)
    if there is None:
        manifest = source.manifest(version.artifact)
        if manifest is None:
            raise CorruptArtifact(f"the artifact {version.artifact} is gone where it comes from", "train it again")
        _check(version, manifest)
        with tempfile.TemporaryDirectory(prefix="rdv-transfer-") as scratch:
            for entry in manifest.files:
                _fetch(source, manifest, entry.path, Path(scratch, entry.path))
            try:
                target.publish(manifest, Path(scratch))
                return True
            except LostRace:
                there = target.manifest(version.artifact)
    if there is not None and there.digest() != version.digest:
        raise LostRace(f"the artifact {version.artifact} is another one there", "see `rdv artifacts list`")
    return False


def _fetch(source: Store, manifest: Manifest, path: str, into: Path) -> None:
    into.parent.mkdir(parents=True, exist_ok=True)
    at = source.fetch(manifest, path, into)
    if at != into:
        into.symlink_to(at)  # a store of files hands out its own


def _check(version: Version, manifest: Manifest) -> None:
    if manifest.digest() != version.digest:
        what = f"version {version.version} names the digest {version.digest[:12]}, its artifact has another"
        raise CorruptArtifact(what, "see `rdv artifacts verify`")


def _register(version: Version, registry: Registry) -> bool:
    key = version_key(version.model, version.version)
    try:
        registry.put(key, encode(version), expect=0)
        return True
    except LostRace:
        entry = registry.get(key)
        there = decode(Version, entry.value, key) if entry else None
    if there is not None and (there.artifact, there.digest) == (version.artifact, version.digest):
        return False
    what = f"version {version.version} of {version.model} is another artifact there"
    raise LostRace(what, f"see `rdv models show {version.model} {version.version}`")
