"""Artifacts over a blob store: files under an attempt, and one manifest that makes them exist.

Layout: `<name>/attempts/<attempt>/<path>` and, written last and create-only, `<name>/manifest.json`. Readers begin
with the manifest; an attempt that no manifest names does not exist for them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from rdv.backends.keys import check_key
from rdv.backends.ports import Blobs
from rdv.errors import CorruptArtifact, LostRace, RdvError, UsageError
from rdv.ids import digest_file
from rdv.manifest import FileEntry, Manifest, decode_manifest, encode_manifest

MANIFEST = "manifest.json"
ATTEMPTS = "attempts"
_LARGE_BYTES = 8 * 1024 * 1024
_HINT = "`rdv artifacts verify` tells which artifacts are damaged"


class Attempt(msgspec.Struct, frozen=True, order=True):
    """Files that were uploaded for an artifact and that its manifest, if there is one, does not name."""

    name: str
    attempt: str
    keys: tuple[str, ...] = ()


class ArtifactStore:
    """Manifests and verified files of one blob store. Nothing that was published ever changes."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of an artifact, None when there is no such artifact; CorruptArtifact when it cannot be read."""
        data = self._blobs.read(_manifest_key(name))
        return None if data is None else decode_manifest(data, name)

    def publish(self, manifest: Manifest, folder: Path) -> Manifest:
        """Make an artifact exist: upload its manifest's files from `folder`, then create the manifest. Returns it.

        Raises LostRace when the artifact exists (this attempt's files are removed again), CorruptArtifact when a
        file is not the one that the manifest names.
        """
        key = _manifest_key(manifest.name)
        if self._blobs.read(key) is not None:
            raise _exists(manifest.name)
        self._upload(manifest, folder)
        try:
            self._blobs.create(key, encode_manifest(manifest))
        except RdvError as error:
            # the answer to a create may be lost on its way: what decides is whose manifest is there
            if self._is_there(manifest):
                return manifest
            if not isinstance(error, LostRace):
                raise  # it may still arrive, so its files stay until they are collected
            self._remove(manifest, manifest.files)
            raise _exists(manifest.name) from None
        return manifest

    def fetch(self, manifest: Manifest, path: str, into: Path) -> Path:
        """A local file with the bytes of one of an artifact's files: `into`, or the store's own; treat as read-only.

        Raises CorruptArtifact unless size and SHA-256 are the manifest's.
        """
        entry = manifest.file(path)
        try:
            at = self._blobs.fetch(file_key(manifest, path), into)
        except CorruptArtifact as error:  # the store has checksums of its own
            raise CorruptArtifact(f"{path} of {manifest.name} is damaged: {error.what}", _HINT) from None
        try:
            _check(manifest.name, entry, at)
        except CorruptArtifact:
            if at == into:
                into.unlink(missing_ok=True)
            raise
        return at

    def names(self, prefix: str = "") -> set[str]:
        """The names of all artifacts that begin with a prefix, by one listing of the store."""
        return {name for name, rest in map(_split, self._blobs.keys(prefix, skip=ATTEMPTS)) if rest == MANIFEST}

    def verify(self, name: str) -> list[str]:
        """What is wrong with an artifact, a sentence a problem; empty when every file is as its manifest says."""
        try:
            manifest = self.manifest(name)
        except CorruptArtifact as error:
            return [error.what]
        if manifest is None:
            return [f"there is no artifact {name}"]
        return self.problems(manifest)

    def problems(self, manifest: Manifest) -> list[str]:
        """As `verify`, for a manifest that need not be published yet."""
        return [problem for entry in manifest.files if (problem := self._problem(manifest, entry))]

    def missing(self, manifest: Manifest) -> list[FileEntry]:
        """The files of a manifest, published or not, that the store does not have; by one listing."""
        _manifest_key(manifest.name)
        there = set(self._blobs.keys(f"{manifest.name}/{ATTEMPTS}/{manifest.attempt}/"))
        return [entry for entry in manifest.files if file_key(manifest, entry.path) not in there]

    def add(self, manifest: Manifest, path: str, source: Path) -> None:
        """Store one file of a manifest, published or not; there already is fine. CorruptArtifact when it is another.

        Unlike `publish` it is for several writers of the same attempt: what one of them has stored, no other removes.
        """
        with suppress(LostRace):
            self._check_and_put(manifest.name, manifest.file(path), source, file_key(manifest, path))

    def seal(self, manifest: Manifest) -> Manifest:
        """Create the manifest of files that are there and verified; the one that stands, which may be another's."""
        key = _manifest_key(manifest.name)
        try:
            self._blobs.create(key, encode_manifest(manifest))
        except LostRace:
            there = self.manifest(manifest.name)
            if there is None:
                raise
            return there
        return manifest

    def delete(self, name: str) -> None:
        """Remove an artifact: its manifest first, so that it is gone at once, then its files. Absent is fine."""
        self._blobs.delete(_manifest_key(name))
        for key in self._blobs.keys(f"{name}/{ATTEMPTS}/"):
            self._blobs.delete(key)

    def orphans(self) -> list[Attempt]:
        """Attempts that no manifest names, by one listing; one that is being uploaded now is among them."""
        attempts: dict[str, dict[str, list[str]]] = {}
        published = set()
        for key in self._blobs.keys(""):
            name, rest = _split(key)
            if rest == MANIFEST:
                published.add(name)
            elif rest:
                attempts.setdefault(name, {}).setdefault(rest.split("/")[1], []).append(key)
        return sorted(
            Attempt(name, attempt, tuple(keys))
            for name, uploaded in attempts.items()
            for attempt, keys in uploaded.items()
            if name not in published or (len(uploaded) > 1 and self._is_another(name, attempt))
        )

    def collect(self, attempts: Iterable[Attempt]) -> int:
        """Delete attempts that `orphans` told of, unless a manifest names them by now; returns how many keys went.

        The caller leaves out what may still be running.
        """
        gone = 0
        for one in attempts:
            if self._is_another(one.name, one.attempt):
                for key in one.keys:
                    self._blobs.delete(key)
                    gone += 1
        return gone

    def unfinished(self, older_than_s: float) -> list[str]:
        """What the store holds of writes that ended in the middle, begun longer ago than so many seconds."""
        return self._blobs.unfinished(older_than_s)

    def discard(self, unfinished: str) -> None:
        """Remove something that `unfinished` told of."""
        self._blobs.discard(unfinished)

    def _upload(self, manifest: Manifest, folder: Path) -> None:
        for at, entry in enumerate(manifest.files):
            key = file_key(manifest, entry.path)
            try:
                self._check_and_put(manifest.name, entry, folder / entry.path, key)
            except LostRace:  # this attempt was interrupted here before
                if problem := self._problem(manifest, entry):
                    raise CorruptArtifact(problem, "publish it again under another attempt") from None
            except Exception:
                self._remove(manifest, manifest.files[:at])
                raise

    def _check_and_put(self, name: str, entry: FileEntry, source: Path, key: str) -> None:
        """Store a file that is the manifest's; a large one is read for its digest while it is being stored."""
        if entry.size_bytes < _LARGE_BYTES:
            _check(name, entry, source)
            self._blobs.put(key, source)
            return
        with ThreadPoolExecutor(1, "rdv-digest") as pool:
            checked = pool.submit(_check, name, entry, source)
            self._blobs.put(key, source)
            try:
                checked.result()
            except CorruptArtifact:
                self._blobs.delete(key)
                raise

    def _remove(self, manifest: Manifest, entries: Iterable[FileEntry]) -> None:
        for entry in entries:
            with suppress(RdvError):  # what stays is an orphan, for `collect`
                self._blobs.delete(file_key(manifest, entry.path))

    def _is_another(self, name: str, attempt: str) -> bool:
        try:
            manifest = self.manifest(name)
        except CorruptArtifact:  # which attempt it named is not known, so none may go
            return False
        return manifest is None or manifest.attempt != attempt

    def _is_there(self, manifest: Manifest) -> bool:
        with suppress(RdvError):
            there = self.manifest(manifest.name)
            return there is not None and there.attempt == manifest.attempt
        return False

    def _problem(self, manifest: Manifest, entry: FileEntry) -> str:
        with tempfile.TemporaryDirectory(prefix="rdv-verify-") as folder:
            try:
                self.fetch(manifest, entry.path, Path(folder) / "file")
            except (CorruptArtifact, UsageError) as error:
                return error.what
        return ""


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """The entries of all files below a folder, sorted by path, for the manifest that will name them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, digest_file(path)) for path in paths
    )


def _check(name: str, entry: FileEntry, at: Path) -> None:
    try:
        size = at.stat().st_size
        if size != entry.size_bytes:
            raise CorruptArtifact(f"{entry.path} of {name} has {size} bytes instead of {entry.size_bytes}", _HINT)
        if digest_file(at) != entry.sha256:
            raise CorruptArtifact(f"{entry.path} of {name} has another SHA-256 than its manifest says", _HINT)
    except FileNotFoundError:
        raise CorruptArtifact(f"{entry.path} of {name} is missing", _HINT) from None


def _exists(name: str) -> LostRace:
    return LostRace(f"artifact {name} is published already", f"`rdv artifacts list {name}` shows it")


def _split(key: str) -> tuple[str, str]:
    """An artifact's name and the rest of a key; `rest` is empty for a key that is none of an artifact's."""
    name, found, rest = key.partition(f"/{ATTEMPTS}/")
    if found:
        return name, f"{ATTEMPTS}/{rest}"
    return (key.removesuffix("/" + MANIFEST), MANIFEST) if key.endswith("/" + MANIFEST) else (key, "")


def _manifest_key(name: str) -> str:
    if {ATTEMPTS, MANIFEST} & set(name.split("/")):
        raise UsageError(f"{name!r} cannot be the name of an artifact", f"{ATTEMPTS} and {MANIFEST} are taken")
    return check_key(f"{name}/{MANIFEST}")


def file_key(manifest: Manifest, path: str) -> str:
    """Where the store keeps one of an artifact's files."""
    _manifest_key(manifest.name)
    if "/" in manifest.attempt:
        raise UsageError(f"{manifest.attempt!r} cannot be the name of an attempt", "use letters and digits")
    return check_key(f"{manifest.name}/{ATTEMPTS}/{manifest.attempt}/{path}")
