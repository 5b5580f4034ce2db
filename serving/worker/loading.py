"""From a version's name to a model that is ready to score: fetch, verify, probe in a child, load, warm.

Everything here blocks and runs in a thread beside the serving loop; the libraries let go of the interpreter meanwhile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

from rdv.backends.ports import Registry
from rdv.config import Goal
from rdv.errors import CorruptArtifact, ModelUnloadable, NotFound
from rdv.files import make_folders
from rdv.flavours import load_predictor
from rdv.inputs import Rows, RowSchema, compile_encoder
from rdv.manifest import Manifest, ModelInfo
from rdv.records import Version, decode, version_key
from rdv.serving.worker.probe import confirm, probe
from rdv.serving.worker.scoring import LoadedModel, score
from rdv.serving.worker.shelf import Shelf, Shelved

_WARM_TURNS = 20


class Artifacts(Protocol):
    """What loading asks of an artifact store; see `rdv.backends.artifacts.ArtifactStore`."""

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of an artifact, None when there is none."""
        ...

    def fetch(self, manifest: Manifest, path: str, into: Path) -> Path:
        """A local, verified, read-only file with the bytes of one of an artifact's files."""
        ...


class Loader:
    """Loads versions of one model for one topic. For one thread at a time."""

    def __init__(
        self,
        model: str,
        goal: Goal,
        schema: RowSchema,
        registry: Registry,
        artifacts: Artifacts,
        shelf: Shelf,
    ) -> None:
        self.model, self._goal, self._schema = model, goal, schema
        self._registry, self._artifacts, self.shelf = registry, artifacts, shelf

    def load(self, version: str, recent: Rows | None = None) -> LoadedModel:
        """A version, probed, loaded and warm. From this disk when it is there, else from the artifact store.

        recent: rows that were scored lately, to warm it on. Raises what says why it cannot be served: NotFound,
        CorruptArtifact, ModelUnloadable, InputError (the goal's schema lacks an input), ConfigError; or, worth
        another try, a Transient error.
        """
        shelved = self.shelf.find(version) or self._fetch(version)
        return self._ready(shelved, recent)

    def load_last_good(self) -> LoadedModel | None:
        """The version that served last, or the one before it when that one cannot be loaded; None when neither can."""
        good = self.shelf.good()
        for version in (good.version, good.previous) if good else ():
            shelved = self.shelf.find(version) if version else None
            if shelved is not None:
                try:
                    return self._ready(shelved, None)
                except (ModelUnloadable, CorruptArtifact):
                    continue
        return None

    def _fetch(self, version: str) -> Shelved:
        key = version_key(self.model, version)
        entry = self._registry.get(key)
        if entry is None:
            raise NotFound(f"model {self.model} has no version {version}", f"see `rdv models list {self.model}`")
        record = decode(Version, entry.value, key)
        manifest = self._artifacts.manifest(record.artifact)
        if manifest is None:
            raise NotFound(f"version {version} of {self.model} has no artifact {record.artifact}", "train it again")
        if manifest.digest() != record.digest or record.version != version or manifest.model is None:
            raise CorruptArtifact(
                f"artifact {record.artifact} is not the model that version {version} of {self.model} was made of",
                "see `rdv artifacts verify`",
            )
        make_folders(self.shelf.folder)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=self.shelf.folder) as folder:
            file = self._artifacts.fetch(manifest, manifest.model.file, Path(folder) / "model")
            return self.shelf.put(record, manifest, file)

    def _ready(self, shelved: Shelved, recent: Rows | None) -> LoadedModel:
        info = shelved.info
        check_answer(self.model, info, self._goal)
        encode = compile_encoder(info.inputs, self._schema)
        probe(info, shelved.file)
        predictor = load_predictor(info, shelved.file)
        confirm(info, predictor)
        version = shelved.version
        loaded = LoadedModel(version.version, version.digest, info, predictor, encode, len(self._schema.numbers))
        if recent is not None:
            for _ in range(_WARM_TURNS):
                score(loaded, recent)
        return loaded


def check_answer(model: str, info: ModelInfo, goal: Goal) -> None:
    """Return when a model answers in the shape its goal asks for; else ModelUnloadable names both."""
    if info.kind != goal.answer:
        raise ModelUnloadable(
            f"model {model} answers a {info.kind}, its goal asks for a {goal.answer}", "see `answer` in rdv.toml"
        )
    if info.kind == "labels" and info.labels != goal.labels:
        raise ModelUnloadable(
            f"model {model} answers the labels {', '.join(info.labels)}, its goal asks for {', '.join(goal.labels)}",
            "see `labels` in rdv.toml",
        )
