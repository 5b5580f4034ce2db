"""Restoring a registry from the artifact store: versions whose artifacts are there, the release log, and the pointers.

A pointer is what the last release of its model says. Nothing that is in the registry is changed: of a model whose rows
there are others than in the store's log, nothing is restored, and what differs is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import partial

import msgspec

from rdv.backends.ports import Registry
from rdv.errors import CorruptArtifact, LostRace
from rdv.manifest import Manifest
from rdv.records import Pointer, Release, Version, decode, encode, model_key, pointer_key
from rdv.releases.pointer import release_of

MODELS = "models/"


class What(StrEnum):
    """What is to be done about a key: restore it in the registry, copy it to the store's log, or nothing, and why."""

    RESTORE = "restore"
    COPY = "copy"
    LOST = "lost"
    DIFFERS = "differs"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One key that registry and log do not agree about. value: what is to be written, None when nothing is."""

    model: str
    key: str
    what: What
    why: str
    value: bytes | None = None


class Both(msgspec.Struct):
    """What the two sides have under a key."""

    here: bytes | None = None
    logged: bytes | None = None


def plan(
    registry: Mapping[str, bytes],
    logged: Mapping[str, bytes],
    same: Callable[[str, bytes, bytes], bool],
    manifest: Callable[[str], Manifest | None],
) -> list[Step]:
    """What a rebuild would do, keys in the order of their writing: versions, releases, pointers last.

    registry, logged: what is below `models/` in both. same: whether two rows say the same. manifest: of an artifact.
    """
    models: dict[str, dict[str, Both]] = defaultdict(dict)
    for key, value in registry.items():
        if model := model_key(key)[0]:
            models[model].setdefault(key, Both()).here = value
    for key, value in logged.items():
        if model := model_key(key)[0]:
            models[model].setdefault(key, Both()).logged = value
    return [step for model, keys in sorted(models.items()) for step in _of_model(model, keys, same, manifest)]


def to_do(steps: Iterable[Step]) -> list[Step]:
    """The steps that will be carried out: none of a model of which something differs."""
    steps = list(steps)
    held = {step.model for step in steps if step.what is What.DIFFERS}
    return [step for step in steps if step.value is not None and step.model not in held]


def carry_out(steps: Iterable[Step], registry: Registry, copy: Callable[[str, bytes], None]) -> int:
    """Write what is to be written, each key only where there is none; how many. Raises LostRace for what came between.

    A rebuild that was interrupted goes on where it was when it is run again.
    """
    done = 0
    for step in to_do(steps):
        assert step.value is not None
        if step.what is What.COPY:
            copy(step.key, step.value)
        else:
            _create(registry, step.key, step.value)
        done += 1
    return done


def _of_model(
    model: str,
    keys: Mapping[str, Both],
    same: Callable[[str, bytes, bytes], bool],
    manifest: Callable[[str], Manifest | None],
) -> list[Step]:
    steps: list[Step] = []
    at = pointer_key(model)
    rows = {key: both for key, both in sorted(keys.items(), key=_versions_first) if key != at}
    for key, both in rows.items():
        step = partial(Step, model=model, key=key)
        if both.here is None and both.logged is not None:
            gone = _gone(key, both.logged, manifest) if is_version(key) else ""
            value = None if gone else both.logged
            what = What.LOST if gone else What.RESTORE
            steps.append(step(what=what, why=gone or "the registry lacks it", value=value))
        elif both.logged is None and both.here is not None:
            steps.append(step(what=What.COPY, why="the artifact store's log lacks it", value=both.here))
        elif both.here is not None and both.logged is not None and not same(key, both.here, both.logged):
            why = "registry and artifact store have different rows"
            steps.append(step(what=What.DIFFERS, why=why))
    lost = {step.key for step in steps if step.what is What.LOST}
    there = {key.rpartition("/")[2] for key in rows if is_version(key) and key not in lost}
    return steps + _pointer(model, keys.get(at, Both()).here, rows, there)


def is_version(key: str) -> bool:
    """Whether a key is of a version."""
    return model_key(key)[1] == "version"


def _versions_first(item: tuple[str, Both]) -> tuple[bool, str]:
    return not is_version(item[0]), item[0]


def _gone(key: str, value: bytes, manifest: Callable[[str], Manifest | None]) -> str:
    """Why a published version cannot be restored; empty when its artifact is the one it was."""
    version = decode(Version, value, key)
    try:
        found = manifest(version.artifact)
    except CorruptArtifact as error:
        return error.what
    if found is None:
        return f"its artifact {version.artifact} is gone"
    return "" if found.digest() == version.digest else f"its artifact {version.artifact} is another one now"


def _pointer(model: str, here: bytes | None, rows: Mapping[str, Both], versions: set[str]) -> list[Step]:
    key = pointer_key(model)
    releases = [
        decode(Release, data, at)
        for at, both in rows.items()
        if model_key(at)[1] == "release" and (data := both.here or both.logged) is not None
    ]
    last = max(releases, key=lambda one: one.serial, default=None)
    step = partial(Step, model=model, key=key)
    if here is not None:
        now = decode(Pointer, here, key)
        if last is None or now.serial > last.serial or release_of(now) == last:
            return []
        why = f"it is at release {now.serial}, {now.version}; the log goes to {last.serial}, {last.version}"
        return [step(what=What.DIFFERS, why=why)]
    if last is None:
        return []
    if last.version not in versions:
        return [step(what=What.LOST, why=f"version {last.version}, which it named, cannot be restored")]
    value = encode(pointer_of(last))
    return [step(what=What.RESTORE, why=f"release {last.serial} was the last one", value=value)]


def pointer_of(last: Release) -> Pointer:
    """The pointer that a release was the move to; pure."""
    return Pointer(
        version=last.version, previous=last.previous, serial=last.serial, kind=last.kind, at=last.at, by=last.by
    )


def _create(registry: Registry, key: str, value: bytes) -> None:
    try:
        registry.put(key, value, expect=0)
    except LostRace:
        there = registry.get(key)
        if there is None or there.value != value:
            raise LostRace(f"{key} was written by somebody else meanwhile", "look at the plan again") from None
