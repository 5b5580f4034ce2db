"""Naming: which artifact a task would make, from what it reads, and whether it is there."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from rdv.manifest import Manifest
from rdv.pipelines.base import NotYet, Store, Task, class_path
from rdv.pipelines.code import code_version
from rdv.pipelines.names import Key, artifact_name, canonical_parameters

_KEPT_MANIFESTS = 64


class Catalog:
    """What exists in a store: one listing a prefix, then only what is added here. Any thread may call it."""

    def __init__(self, store: Store) -> None:
        self._store, self._guard = store, threading.Lock()
        self._prefixes: set[str] = set()
        self._names: set[str] = set()
        self._manifests: dict[str, Manifest] = {}

    def list(self, prefix: str) -> set[str]:
        """The names that begin with a prefix which ends in `/`, as they were at the first listing and since."""
        with self._guard:
            if prefix not in self._prefixes:
                self._names |= self._store.names(prefix)
                self._prefixes.add(prefix)
            return {name for name in self._names if name.startswith(prefix)}

    def generation(self, base: str) -> int:
        """The newest generation of an artifact that exists, 0 when there is none."""
        prefix = base[: base.rindex("/") + 1]
        with self._guard:
            if prefix not in self._prefixes:
                self._names |= self._store.names(prefix)
                self._prefixes.add(prefix)
            newest = 1 if base in self._names else 0
            while f"{base}.{newest + 1}" in self._names:
                newest += 1
            return newest

    def has(self, name: str) -> bool:
        """Whether an artifact was there at the listing or has been found since."""
        with self._guard:
            return name in self._names

    def look(self, name: str) -> Manifest | None:
        """An artifact's manifest, read afresh unless it is known; None when there is none."""
        with self._guard:
            if name in self._manifests:
                return self._manifests[name]
        manifest = self._store.manifest(name)
        if manifest is None:
            return None
        with self._guard:
            self._names.add(name)
            self._manifests[name] = manifest
            while len(self._manifests) > _KEPT_MANIFESTS:
                del self._manifests[next(iter(self._manifests))]
        return manifest


class Naming:
    """Names tasks of one run. A name, once known, stays: what a task reads has been made by then, for good.

    force: every task's artifact is made again, as the generation after the newest that exists at the first look.
    """

    def __init__(self, catalog: Catalog, folder: Path, force: bool = False) -> None:
        self.catalog, self._folder, self._force = catalog, folder, force
        self._names: dict[tuple[type[Task], str], str] = {}
        self._codes: dict[tuple[str, ...], str] = {}
        self._external: dict[type[Task], dict[str, str]] = {}
        self._guard = threading.Lock()

    def name(self, task: Task) -> str | None:
        """The artifact that a task makes; None while something that it reads is missing."""
        mark = (type(task), task.point)
        if mark not in self._names:
            key = self.key(task)
            if key is None:
                return None
            self._names[mark] = artifact_name(key)
        return self._names[mark]

    def key(self, task: Task) -> Key | None:
        """Everything that decides a task's artifact; None while something that it reads is missing."""
        upstream = self.upstream(task)
        if upstream is None:
            return None
        digests = {role: manifest.digest() for role, manifest in upstream.items()}
        return self._with_generation(self._key(task, digests | self.external(task)))

    def upstream(self, task: Task) -> dict[str, Manifest] | None:
        """The manifests of all that a task reads, by role; None while one is missing."""
        with suppress(NotYet):
            manifests = {role: self.manifest(other) for role, other in task.upstream().items()}
            manifests |= {role: self.catalog.look(name) for role, name in task.artifacts().items()}
            if all(manifests.values()):
                return {role: manifest for role, manifest in manifests.items() if manifest is not None}
        return None

    def manifest(self, task: Task) -> Manifest | None:
        """The manifest of a task's artifact, None when it is missing."""
        name = self.name(task)
        return self.catalog.look(name) if name is not None and self.catalog.has(name) else None

    def exists(self, task: Task) -> bool:
        """Whether a task's artifact is there, by what is known so far."""
        name = self.name(task)
        return name is not None and self.catalog.has(name)

    def points_done(self, task: Task, points: Iterable[str]) -> dict[str, str]:
        """Those of many points of a task whose artifacts exist, each with the artifact's name. One listing in all."""
        upstream = self.upstream(task)
        if upstream is None:
            return {}
        digests = {role: manifest.digest() for role, manifest in upstream.items()} | self.external(task)
        done = {}
        for point in points:
            mark = (type(task), point)
            if mark not in self._names:
                self._names[mark] = artifact_name(self._with_generation(self._key(task.at(point), digests)))
            if self.catalog.has(self._names[mark]):
                done[point] = self._names[mark]
        return done

    def partial_key(self, task: Task) -> Key:
        """The key as far as it is known now, for telling what differs; digests of what is missing are empty."""
        digests: dict[str, str] = {}
        with suppress(NotYet):
            for role, other in task.upstream().items():
                manifest = self.manifest(other)
                digests[role] = manifest.digest() if manifest else ""
        return self._key(task, digests | self.external(task))

    def _key(self, task: Task, digests: dict[str, str]) -> Key:
        kind = type(task)
        return Key(
            task=class_path(kind),
            family=task.family,
            scope=task.scope,
            period=task.period,
            parameters=canonical_parameters({**task.parameters(), "period": task.span}),
            upstream=digests,
            code=self.code(task),
            shown=task.shown(),
        )

    def _with_generation(self, key: Key) -> Key:
        newest = self.catalog.generation(artifact_name(key))
        generation = newest + 1 if self._force else max(newest, 1)
        if generation == 1:
            return key
        return replace(key, generation=generation)

    def external(self, task: Task) -> dict[str, str]:
        """Digests of what a task reads beside artifacts, as they were at the first look."""
        kind = type(task)
        with self._guard:
            if kind not in self._external:
                self._external[kind] = task.external()
            return self._external[kind]

    def code(self, task: Task) -> str:
        """The code version of a task, as it was at the first look."""
        kind = type(task)
        mark = (class_path(kind), *task.code_modules())
        with self._guard:
            if mark not in self._codes:
                self._codes[mark] = task_code(kind, task.code_modules(), self._folder)
            return self._codes[mark]


def task_code(kind: type[Task], modules: Iterable[str], folder: Path) -> str:
    """The code version of a task: its classes' explicit versions and the project's modules that it imports."""
    versions = ",".join(
        f"{one.__name__}={one.__dict__['version']}" for one in kind.__mro__ if "version" in one.__dict__
    )
    codes = [code_version(module, folder, versions) for module in (kind.__module__, *modules)]
    return codes[0] if len(codes) == 1 else code_version("", folder, ",".join(codes))
