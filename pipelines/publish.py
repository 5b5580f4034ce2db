"""Publication: one create-only write of a version into the registry. It never moves a pointer."""

from __future__ import annotations

from rdv.backends.ports import Registry
from rdv.errors import LostRace, NotFound
from rdv.manifest import Manifest
from rdv.pipelines.base import Task
from rdv.pipelines.names import version_name
from rdv.pipelines.periods import Period
from rdv.pipelines.validate import ValidateTask
from rdv.records import Pointer, Version, decode, encode, pointer_key, version_key


class PublishTask(Task):
    """The root of the graph: the chosen model in the registry. It makes no artifact; the run's process does it."""

    family = "publish"

    def upstream(self) -> dict[str, Task]:
        """The verdict."""
        return {"verdict": self.sibling(ValidateTask)}

    def complete(self) -> bool:
        """Luigi's question: whether the version is in the registry."""
        return self.context.run().published(self)

    def run(self) -> None:
        """Luigi's order: publish."""
        self.context.run().publish(self)


def version_record(model: str, manifest: Manifest, period: Period, metrics: dict[str, float], run: str) -> Version:
    """The version that an artifact is published as; metrics: those of the test part beside the manifest's own."""
    return Version(
        model=model,
        version=version_name(manifest.name, period),
        artifact=manifest.name,
        digest=manifest.digest(),
        created=manifest.created,
        metrics={**manifest.metrics, **metrics},
        run=run,
    )


def publish_version(registry: Registry, record: Version) -> bool:
    """Create a version; False when the same one is there already. Raises LostRace when its name is taken by another."""
    key = version_key(record.model, record.version)
    try:
        registry.put(key, encode(record), expect=0)
        return True
    except LostRace:
        there = published_version(registry, record.model, record.version)
        if there is not None and (there.artifact, there.digest) == (record.artifact, record.digest):
            return False
        raise LostRace(
            f"version {record.version} of {record.model} is another artifact already",
            f"see `rdv models show {record.model}`",
        ) from None


def published_version(registry: Registry, model: str, version: str) -> Version | None:
    """A version's record, None when there is none."""
    key = version_key(model, version)
    entry = registry.get(key)
    return None if entry is None else decode(Version, entry.value, key)


def champion_version(registry: Registry, model: str) -> str:
    """The version that the model's pointer names; empty when nothing was released."""
    entry = registry.get(pointer_key(model))
    return "" if entry is None else decode(Pointer, entry.value, pointer_key(model)).version


def champion_artifact(registry: Registry, model: str) -> str:
    """The name of the artifact that the model's pointer leads to; empty when nothing was released."""
    name = champion_version(registry, model)
    if not name:
        return ""
    version = published_version(registry, model, name)
    if version is None:
        raise NotFound(f"{model} points to version {name}, which is not published", "see `rdv doctor`")
    return version.artifact
