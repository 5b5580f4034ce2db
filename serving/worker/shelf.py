"""Model versions on a worker's own disk, so that it starts and serves with registry and artifact store gone.

Layout below the model's folder: `<version>/` with `model`, `manifest.json` and, written last, `version.json`; and
`good.json`, which names the version that was last confirmed to serve. All replicas of a model share the folder.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rdv.errors import ConfigError, CorruptArtifact
from rdv.files import copy_file, create_file, make_folders, replace_file, sweep
from rdv.ids import digest_file
from rdv.manifest import Manifest, ModelInfo, decode_manifest, encode_manifest
from rdv.records import Version

_GOOD = "good.json"
_VERSION = "version.json"
_MANIFEST = "manifest.json"
_MODEL = "model"
_LOCK = "lock"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,199}")
_YOUNG_S = 600.0


class Good(msgspec.Struct, frozen=True):
    """The version that served last, and the one before."""

    version: str
    previous: str = ""


class Shelved(msgspec.Struct, frozen=True):
    """A version that is on this disk with the bytes that its manifest names. file: the model file."""

    version: Version
    manifest: Manifest
    file: Path

    @property
    def info(self) -> ModelInfo:
        """How to load it; CorruptArtifact when the artifact holds no model."""
        if self.manifest.model is None:
            raise CorruptArtifact(f"artifact {self.manifest.name} holds no model", "deploy a version of a model")
        return self.manifest.model


class Shelf:
    """The versions of one model on this disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, version: str) -> Shelved | None:
        """A version whose file is here and has the checksum of its manifest; None when it is not, or is damaged."""
        folder = self._folder(version)
        try:
            record = msgspec.json.decode((folder / _VERSION).read_bytes(), type=Version)
            manifest = decode_manifest((folder / _MANIFEST).read_bytes(), record.artifact)
            shelved = Shelved(record, manifest, folder / _MODEL)
            if record.version == version and manifest.digest() == record.digest:
                _check(shelved)
                return shelved
        except (OSError, msgspec.MsgspecError, CorruptArtifact):
            return None
        return None

    def put(self, version: Version, manifest: Manifest, source: Path) -> Shelved:
        """Copy a fetched model file here and return it; CorruptArtifact unless the copy has the manifest's checksum.

        ConfigError when the version's name cannot be a folder's. Replicas that do it at once do it one by one.
        """
        folder = self._folder(version.version)
        shelved = Shelved(version, manifest, folder / _MODEL)
        with self._locked():
            there = self.find(version.version)
            if there is not None:
                return there
            shutil.rmtree(folder, ignore_errors=True)
            make_folders(folder)
            copy_file(source, shelved.file)
            _check(shelved)
            create_file(folder / _MANIFEST, encode_manifest(manifest))
            create_file(folder / _VERSION, msgspec.json.encode(version))
        return shelved

    def good(self) -> Good | None:
        """What served last; None when nothing ever did, or nobody can tell any more."""
        try:
            return msgspec.json.decode((self.folder / _GOOD).read_bytes(), type=Good)
        except (OSError, msgspec.MsgspecError):
            return None

    def mark_good(self, version: str) -> None:
        """Note that a version serves; versions before its predecessor leave the disk, unless they are young."""
        with self._locked():
            good = self.good()
            if good is None or good.version != version:
                good = Good(version, good.version if good else "")
                replace_file(self.folder / _GOOD, msgspec.json.encode(good))
            sweep(self.folder)
            for folder in self.folder.iterdir():
                # what is young may be what another replica is loading
                if folder.is_dir() and folder.name not in (good.version, good.previous) and _age_s(folder) > _YOUNG_S:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folders(self.folder)
        with (self.folder / _LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _folder(self, version: str) -> Path:
        if not _SAFE.fullmatch(version):
            raise ConfigError(f"{version!r} cannot name a version", "see `rdv models list`")
        return self.folder / version


def _check(shelved: Shelved) -> None:
    entry = shelved.manifest.file(shelved.info.file)
    if shelved.file.stat().st_size != entry.size_bytes or digest_file(shelved.file) != entry.sha256:
        raise CorruptArtifact(
            f"{entry.path} of {shelved.manifest.name} is not the file that its manifest names",
            "see `rdv artifacts verify`",
        )


def _age_s(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0
