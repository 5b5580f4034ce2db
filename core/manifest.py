"""The manifest: the one small document whose existence makes an artifact exist.

It is written last and create-only, never changed, and it is where training and serving meet.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rdv.errors import CorruptArtifact
from rdv.inputs import InputSpec


class FileEntry(msgspec.Struct, frozen=True):
    """One file of an artifact: its path below the artifact's attempt folder, size and SHA-256."""

    path: str
    size_bytes: int
    sha256: str


class Cost(msgspec.Struct, frozen=True):
    """What making the artifact took; `peak_memory_bytes` is the resident peak of the step's process group."""

    wall_s: float = 0.0
    peak_memory_bytes: int = 0


class ModelInfo(msgspec.Struct, frozen=True):
    """What a worker needs to serve the model in an artifact.

    file: the model's path within the artifact. flavour: `lightgbm`, `catboost`, ...
    kind: `probability` (binary, of `positive`), `labels` (multiclass, one value per label in order) or `number`.
    probe_rows, probe_scores: a few rows, one value an input in the order of `inputs` (see `rdv.probe_rows`), and the
    scores the training side computed for them, to be reproduced by whoever loads the model.
    """

    file: str
    flavour: str
    kind: str
    inputs: InputSpec
    labels: tuple[str, ...] = ()
    positive: str = ""
    probe_rows: tuple[tuple[float | str | None, ...], ...] = ()
    probe_scores: tuple[tuple[float, ...], ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to know about one artifact without opening its files.

    name: path-safe, unique, from what made it. kind: `dataset`, `features`, `model`, `report`, ... of a task.
    parameters: canonical text of every parameter that is in the name. upstream: role to artifact digest.
    code: digest of the code version. created: UTC, ISO 8601. digest(): over files, not over cost or time.
    """

    name: str
    kind: str
    attempt: str
    files: tuple[FileEntry, ...]
    task: str
    parameters: dict[str, str] = {}
    upstream: dict[str, str] = {}
    code: str = ""
    seed: int = 0
    created: str = ""
    run: str = ""
    metrics: dict[str, float] = {}
    libraries: dict[str, str] = {}
    cost: Cost = Cost()
    model: ModelInfo | None = None
    extra: dict[str, Any] = {}

    def digest(self) -> str:
        """The SHA-256 over the artifact's file paths and contents: equal bytes, equal digest."""
        from rdv.ids import digest_bytes

        lines = sorted(f"{entry.path}\0{entry.sha256}\n" for entry in self.files)
        return digest_bytes("".join(lines).encode())

    def file(self, path: str) -> FileEntry:
        """The entry of one of the artifact's files; CorruptArtifact when it has none of that path."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise CorruptArtifact(f"artifact {self.name} has no file {path!r}", "see `rdv artifacts verify`")


# Made here, by one thread: msgspec 0.22 crashes the process when several threads decode a type for the first time.
_DECODER = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON, the same bytes for the same content."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)


def decode_manifest(data: bytes, name: str) -> Manifest:
    """The manifest in some bytes; CorruptArtifact when they are none, or are one of another artifact."""
    try:
        manifest = _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise CorruptArtifact(f"the manifest of {name} cannot be read: {error}", "see `rdv artifacts verify`") from None
    if manifest.name != name:
        raise CorruptArtifact(f"the manifest stored for {name} is of {manifest.name}", "see `rdv artifacts verify`")
    return manifest
