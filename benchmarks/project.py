"""A service project in a folder of its own: three LightGBM models behind a tiered policy, published and deployed.

Training goes around `rdv train` on purpose: the serving figures must not wait for it.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import case
from case import GOAL, model_text, predictions

from rdv.backends.artifacts import ArtifactStore
from rdv.clock import SystemClock
from rdv.config import Project
from rdv.ids import digest_file, short_id
from rdv.inputs import InputField, InputSpec
from rdv.manifest import FileEntry, Manifest, ModelInfo
from rdv.records import Version, encode, version_key
from rdv.releases.pointer import deploy

if TYPE_CHECKING:
    import numpy as np

CHAMPION, RUNNER_UP, THIRD = "visit/champion", "visit/runner_up", "visit/third"
BUDGET_MS = 80.0
DEFAULT = 0.5
SETTINGS = f"""\
project = "bench"

[goals.{GOAL}]
schema = "visit.json"
budget_ms = {BUDGET_MS}
default = {DEFAULT}
tiers = [
  {{ until_ms = 25, models = ["{CHAMPION}"] }},
  {{ until_ms = 60, models = ["{CHAMPION}", "{RUNNER_UP}"] }},
  {{ until_ms = {BUDGET_MS}, models = ["{CHAMPION}", "{RUNNER_UP}", "{THIRD}"] }},
]

[serve]
port = {{port}}
""" + "".join(f'\n[models."{name}"]\ngoal = "{GOAL}"\n' for name in (CHAMPION, RUNNER_UP, THIRD))


def free_port() -> int:
    """A TCP port of this host that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class BenchProject:
    """The project and its published models. expected: (model, version) to the right answer of each request body."""

    def __init__(self, folder: Path, bus: str = "frames:") -> None:
        from rdv.backends.select import artifacts, registry
        from rdv.settings import load_project

        self.folder, self.port = folder, free_port()
        settings = SETTINGS.replace("{port}", str(self.port)) + f'\n[environments.local]\nbus = "{bus}"\n'
        (folder / "rdv.toml").write_text(settings)
        (folder / "visit.json").write_text(json.dumps(case.schema()))
        self.bodies, self.matrix = case.write_bodies(folder)
        self.project: Project = load_project(folder, environ={})
        self._store: ArtifactStore = artifacts(self.project)
        self._registry = registry(self.project)
        self.expected: dict[tuple[str, str], list[float]] = {}
        for seed, model in enumerate((CHAMPION, RUNNER_UP, THIRD), start=1):
            self.publish(model, "v1", seed)
            self.release(model, "v1")

    def publish(self, model: str, version: str, seed: int) -> None:
        """Make a trained model a version of the named line."""
        artifact = f"{model.replace('/', '-')}-{version}"
        folder = self.folder / "made" / artifact
        folder.mkdir(parents=True)
        file = folder / "model.txt"
        file.write_text(model_text(seed))
        right = predictions(seed)
        manifest = self._store.publish(_manifest(artifact, file, self.matrix, right), folder)
        record = Version(model=model, version=version, artifact=artifact, digest=manifest.digest())
        self._registry.put(version_key(model, version), encode(record), expect=0)
        self.expected[model, version] = right

    def release(self, model: str, version: str) -> None:
        """Move the model's pointer."""
        deploy(self._registry, model, version, "benchmark", SystemClock())


def _manifest(artifact: str, file: Path, matrix: np.ndarray, right: list[float]) -> Manifest:
    probes = range(5)
    return Manifest(
        name=artifact,
        kind="model",
        attempt=short_id(),
        files=(FileEntry(file.name, file.stat().st_size, digest_file(file)),),
        task="benchmarks.project",
        model=ModelInfo(
            file=file.name,
            flavour="lightgbm",
            kind="probability",
            inputs=InputSpec(tuple(InputField(name) for name in case.FIELDS)),
            positive="1",
            probe_rows=tuple(tuple(matrix[at].tolist()) for at in probes),
            probe_scores=tuple((right[at],) for at in probes),
        ),
    )
