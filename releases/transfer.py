"""A version brought from one environment into another: its bytes by digest, then its record. Nothing is trained.

Nothing is ever removed or overwritten, and each step is create-only: files first, then the manifest over files that
were read again, then the record. So the same call goes on wherever another was killed, and two at once end as one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

import msgspec

from rdv.backends.ports import Registry
from rdv.clock import Clock
from rdv.errors import CorruptArtifact, LostRace
from rdv.manifest import FileEntry, Manifest
from rdv.records import Version, decode, encode, version_key
from rdv.releases.pointer import stamp


class Store(Protocol):
    """What is needed of an artifact store."""

    def manifest(self, name: str) -> Manifest | None: ...
    def fetch(self, manifest: Manifest, path: str, into: Path) -> Path: ...
    def missing(self, manifest: Manifest) -> list[FileEntry]: ...
    def add(self, manifest: Manifest, path: str, source: Path) -> None: ...
    def problems(self, manifest: Manifest) -> list[str]: ...
    def seal(self, manifest: Manifest) -> Manifest: ...


class Side(msgspec.Struct, frozen=True):
    """One of the two environments: its name and its artifact store."""

    env: str
    store: Store


class Brought(msgspec.Struct, frozen=True):
    """What a transfer has done. copied, there: files; registered: whether the record is new."""

    copied: int
    there: int
    size_bytes: int
    registered: bool


def transfer(version: Version, source: Side, target: Side, registry: Registry, clock: Clock) -> Brought:
    """Have a version in the target's store and registry; what was left to do.

    Raises CorruptArtifact when a byte on either side is not the manifest's, LostRace when either name is taken by
    something else. Killed in the middle, the same call goes on: the artifact exists before the record that names it.
    """
    manifest, there = _agreed(version, source, target)
    missing = target.store.missing(manifest)
    if missing:
        _copy(_own(version, source), manifest, missing, source, target)
    problems = target.store.problems(manifest)
    if problems:
        raise CorruptArtifact(
            f"{version.version} of {version.model} is not whole in {target.env}: {problems[0]}",
            f"see `rdv artifacts verify --env {target.env}`; `rdv artifacts gc` removes what no version uses",
        )
    if not there:
        _same(version, target.store.seal(manifest), target)
    registered = _register(version, source.env, target.env, registry, clock)
    size = sum(entry.size_bytes for entry in missing)
    return Brought(len(missing), len(manifest.files) - len(missing), size, registered)


def _agreed(version: Version, source: Side, target: Side) -> tuple[Manifest, bool]:
    """The manifest that the target has, or is to have, and whether it has it."""
    there = target.store.manifest(version.artifact)
    if there is None:
        return _own(version, source), False
    return _same(version, there, target), True


def _own(version: Version, source: Side) -> Manifest:
    """The version's manifest where it comes from."""
    manifest = source.store.manifest(version.artifact)
    hint = f"see `rdv artifacts verify --env {source.env}`"
    if manifest is None:
        raise CorruptArtifact(f"the artifact {version.artifact} is gone in {source.env}", hint)
    if manifest.digest() != version.digest:
        what = f"version {version.version} of {version.model} names the digest {version.digest[:12]} in {source.env}"
        raise CorruptArtifact(f"{what}, its artifact has {manifest.digest()[:12]}", hint)
    return manifest


def _same(version: Version, there: Manifest, target: Side) -> Manifest:
    if there.digest() != version.digest:
        what = f"the artifact {there.name} is another one in {target.env}, of digest {there.digest()[:12]}"
        raise LostRace(
            f"{what} instead of {version.digest[:12]}", f"see `rdv artifacts list {there.name} --env {target.env}`"
        )
    return there


def _copy(own: Manifest, manifest: Manifest, missing: list[FileEntry], source: Side, target: Side) -> None:
    """Copy files, each read against its SHA-256; a file at a time is on this machine's disk."""
    for entry in missing:
        with tempfile.TemporaryDirectory(prefix="rdv-transfer-") as scratch:
            try:
                at = source.store.fetch(own, entry.path, Path(scratch, "file"))
            except CorruptArtifact as error:
                raise CorruptArtifact(
                    f"{error.what}, in {source.env}", f"see `rdv artifacts verify --env {source.env}`"
                ) from None
            target.store.add(manifest, entry.path, at)


def _register(version: Version, source: str, target: str, registry: Registry, clock: Clock) -> bool:
    key = version_key(version.model, version.version)
    record = msgspec.structs.replace(version, came_from=source, brought=stamp(clock))
    try:
        registry.put(key, encode(record), expect=0)
        return True
    except LostRace:
        entry = registry.get(key)
        there = decode(Version, entry.value, key) if entry else None
    if there is not None and (there.artifact, there.digest) == (version.artifact, version.digest):
        return False
    what = f"version {version.version} of {version.model} is another artifact in {target}"
    raise LostRace(what, f"see `rdv models show {version.model} {version.version} --env {target}`")
