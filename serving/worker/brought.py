"""Files that a cluster has brought to a worker before it started, each called by its SHA-256."""

from __future__ import annotations

import logging
from pathlib import Path

from rdv.ids import digest_file
from rdv.manifest import FileEntry, Manifest
from rdv.serving.worker.loading import Artifacts

_log = logging.getLogger("rdv.worker")


class Brought:
    """A store for loading whose files are taken from a folder where they are there with the manifest's checksum."""

    def __init__(self, folder: Path, store: Artifacts) -> None:
        self._folder, self._store = folder, store

    def manifest(self, name: str) -> Manifest | None:
        """As the store's: what a file ought to be is never taken from the folder."""
        return self._store.manifest(name)

    def fetch(self, manifest: Manifest, path: str, into: Path) -> Path:
        """The folder's file if it is this one, else the store's."""
        entry = manifest.file(path)
        at = self._folder / entry.sha256
        if not at.is_file():
            return self._store.fetch(manifest, path, into)
        if _is(at, entry):
            _log.info("%s of %s was brought by the cluster", path, manifest.name)
            return at
        _log.warning("what the cluster brought is not %s of %s; it is fetched", path, manifest.name)
        return self._store.fetch(manifest, path, into)


def _is(at: Path, entry: FileEntry) -> bool:
    try:
        return at.stat().st_size == entry.size_bytes and digest_file(at) == entry.sha256
    except OSError:
        return False
