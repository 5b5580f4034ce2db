"""What `rdv models` shows: models of rdv.toml beside their versions, pointers and releases in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rdv.cli.options import require_model
from rdv.cli.stored import registered, role
from rdv.errors import CorruptArtifact, NotFound

if TYPE_CHECKING:
    from rdv.config import Config, Project
    from rdv.manifest import Manifest
    from rdv.records import Pointer, Version

WORDS = ("current", "previous", "newest")
TEST = "test_"


def resolve(model: str, text: str, versions: Sequence[Version], pointer: Pointer | None) -> Version:
    """The version of a model that a text names: an id, the only one that begins so, or one of WORDS.

    versions: the model's, in any order. Raises NotFound, naming what there is to list.
    """
    hint = f"see `rdv models list {model}`"
    named = {"current": pointer.version, "previous": pointer.previous} if pointer else {}
    if text == "newest" and versions:
        return newest_first(versions)[0]
    wanted = named.get(text, text)
    found = [one for one in versions if one.version == wanted] or [
        one for one in versions if wanted and text not in WORDS and one.version.startswith(wanted)
    ]
    if len(found) > 1:
        raise NotFound(f"{text!r} begins {len(found)} versions of {model}", hint)
    if not found:
        raise NotFound(f"{model} has no {text} version" if text in WORDS else f"{model} has no version {text!r}", hint)
    return found[0]


def newest_first(versions: Sequence[Version]) -> list[Version]:
    """Versions by the moment at which they were made, the last one first."""
    return sorted(versions, key=lambda one: (one.created, one.version), reverse=True)


def find_version(project: Project, model: str, text: str = "") -> Version:
    """A published version of a model; text: see `resolve`, empty: the one that is served, or else the newest."""
    from rdv.backends import select

    require_model(project, model)
    versions, pointers = registered(select.registry(project))
    pointer = pointers.get(model)
    own = [one for one in versions if one.model == model]
    return resolve(model, text or ("current" if pointer else "newest"), own, pointer)


def manifest_of(project: Project, model: str, text: str = "") -> Manifest:
    """The manifest of a version; CorruptArtifact when its artifact is gone."""
    from rdv.backends import select

    version = find_version(project, model, text)
    manifest = select.artifacts(project).manifest(version.artifact)
    if manifest is None:
        what = f"version {version.version} of {model} names artifact {version.artifact}, which is gone"
        raise CorruptArtifact(what, f"train it again: `rdv train {model}`")
    return manifest


def model_records(project: Project) -> list[dict[str, Any]]:
    """A record a model of rdv.toml."""
    from rdv.backends import select

    versions, pointers = registered(select.registry(project))
    records = []
    for name, model in sorted(project.config.models.items()):
        own = newest_first([one for one in versions if one.model == name])
        pointer = pointers.get(name)
        records.append(
            {
                "model": name,
                "goal": model.goal,
                "role": role_in_goal(project.config, name),
                "flavour": model.flavour,
                "current": pointer.version if pointer else "",
                "previous": pointer.previous if pointer else "",
                "versions": len(own),
                "newest": own[0].version if own else "",
            }
        )
    return records


def role_in_goal(config: Config, model: str) -> str:
    """What a model is for its goal: `canary model`, `champion`, `tier 2` ..., or `challenger` when no tier names it."""
    goal_name = config.models[model].goal
    goal = config.goals.get(goal_name)
    if goal is None:
        return ""
    if any(one.canary_model == model for one in goal.modelling_goals(goal_name).values()):
        return "canary model"
    tiers = [place for place, tier in enumerate(goal.tiers, start=1) if model in tier.models]
    if not tiers:
        return "challenger"
    return "champion" if goal.tiers[0].models[0] == model else f"tier {tiers[0]}"


def version_records(project: Project, model: str) -> list[dict[str, Any]]:
    """A record a version of a model, newest first."""
    from rdv.backends import select

    require_model(project, model)
    versions, pointers = registered(select.registry(project))
    return [
        {
            "model": model,
            "version": one.version,
            "pointer": role(one, pointers),
            "created": one.created,
            "came_from": one.came_from,
            "brought": one.brought,
            "on_unseen_rows": test_metrics(one),
            "metrics": one.metrics,
            "run": one.run,
            "artifact": one.artifact,
            "digest": one.digest,
        }
        for one in newest_first([one for one in versions if one.model == model])
    ]


def test_metrics(version: Version) -> dict[str, float]:
    """A version's metrics on the test part, by their plain names."""
    return {name.removeprefix(TEST): value for name, value in version.metrics.items() if name.startswith(TEST)}


def version_document(project: Project, model: str, text: str) -> dict[str, Any]:
    """Everything there is to know about a version."""
    version = find_version(project, model, text)
    manifest = manifest_of(project, model, version.version)
    return {
        "model": model,
        "version": version.version,
        "created": version.created,
        "run": version.run,
        "came_from": version.came_from,
        "brought": version.brought,
        "artifact": version.artifact,
        "digest": version.digest,
        "task": manifest.task,
        "parameters": manifest.parameters,
        "metrics": version.metrics or manifest.metrics,
        "inputs": [field.name for field in manifest.model.inputs.fields] if manifest.model else [],
        "made_from": manifest.upstream,
        "code": manifest.code,
        "seed": manifest.seed,
        "libraries": manifest.libraries,
        "wall_s": manifest.cost.wall_s,
        "peak_memory_bytes": manifest.cost.peak_memory_bytes,
    }


def release_records(project: Project, model: str) -> list[dict[str, Any]]:
    """A record a release of a model, newest first."""
    from rdv.backends import select
    from rdv.cli.output import finite
    from rdv.releases.pointer import history

    return [finite(one) for one in sorted(history(select.registry(project), model), key=lambda one: -one.serial)]
