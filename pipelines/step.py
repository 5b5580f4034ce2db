"""A step's process: from the payload that was dispatched to the manifest that makes the artifact exist."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import monotonic
from typing import Any

import msgspec
from msgspec.structs import replace

from rdv.backends import select
from rdv.config import Config, Environment, Project
from rdv.errors import CorruptArtifact, LostRace, StepFailed, UsageError
from rdv.ids import digest_bytes, digest_file, short_id
from rdv.manifest import Cost, FileEntry, Manifest
from rdv.pipelines.base import Artifact, Context, Inputs, StepResult, Store, Task
from rdv.pipelines.names import canonical_parameters
from rdv.pipelines.naming import task_code
from rdv.pipelines.scratch import scratch_folder
from rdv.settings import kept

CONFIG_FILE, SPEC_FILE = "config.json", "spec.json"
PACKED_BYTES = 12288
"""A longer payload goes into an artifact: a port takes 16 KiB, and Nomad with all that belongs to a step."""
_INPUT = ".input-"
_LIBRARIES = ("rdv", "numpy", "lightgbm", "catboost", "pyarrow")


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a step is told. name: of the artifact to make. upstream: role to artifact name. environment, env: where the

    store is. config: the artifact that holds the configuration of the run. The project is where the step runs.
    """

    name: str
    task: str
    model: str
    period: str
    point: str
    upstream: dict[str, str]
    external: dict[str, str]
    parameters: dict[str, str]
    code: str
    config: str
    env: str
    environment: Environment
    run: str


class Packed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a long payload is: an artifact, and the environment whose store has it."""

    spec: str
    env: str
    environment: Environment


def pack(payload: Payload, store: Store, state: Path) -> dict[str, Any]:
    """A payload as it is dispatched: itself, or, when it is long, the artifact that holds it."""
    data = msgspec.json.encode(payload, order="sorted")
    if len(data) <= PACKED_BYTES:
        plain: dict[str, Any] = msgspec.to_builtins(payload)
        return plain
    with scratch_folder(state) as scratch:
        name = _publish_document(store, "spec", SPEC_FILE, data, scratch)
    packed: dict[str, Any] = msgspec.to_builtins(Packed(name, payload.env, payload.environment))
    return packed


def unpack(payload: dict[str, Any]) -> Payload:
    """The payload that `pack` was given."""
    if "spec" not in payload:
        return msgspec.convert(payload, Payload)
    told = msgspec.convert(payload, Packed)
    project = _project(told.env, told.environment)
    store: Store = select.artifacts(project)
    with scratch_folder(project.state) as scratch:
        data = store.fetch(_there(store, told.spec), SPEC_FILE, scratch / SPEC_FILE).read_bytes()
    return msgspec.json.decode(data, type=Payload)


def run(payload: dict[str, Any]) -> None:
    """The entry of every step: make the artifact that the payload names, unless it is there."""
    told = unpack(payload)
    began = monotonic()
    project = _project(told.env, told.environment)
    store: Store = select.artifacts(project)
    if store.manifest(told.name) is not None:
        return
    # One folder for output and input: making and removing folders is what a short step spends most of its time on.
    with scratch_folder(project.state) as scratch:
        task = _task(told, _configured(project, told, store, scratch))
        inputs, digests = read_inputs(told, store, scratch)
        result = task.execute(inputs, scratch)
        manifest = make_manifest(told, task, result, digests, scratch, began)
        try:
            store.publish(manifest, scratch)
        except LostRace:
            print(f"{told.name} has been made by somebody else meanwhile")


def find_task(path: str, folder: Path) -> type[Task]:
    """The task class at `module:Class`; modules of the project's folder are importable. UsageError when it is none."""
    module, colon, name = path.partition(":")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Any = import_module(module)
    except Exception as error:  # whatever a project's module does when it is imported
        raise UsageError(
            f"task {path!r}: {module!r} cannot be imported: {error!r}", f"look at it in {folder}"
        ) from error
    for part in name.split(".") if colon else [""]:
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UsageError(
            f"task {path!r} is no task", "name it as module:Class, a subclass of rdv.pipelines.task.TrainTask"
        )
    return found


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """The entries of all files below a folder that are no inputs, sorted by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(_INPUT))
    return tuple(
        FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, digest_file(path)) for path in paths
    )


def now_text() -> str:
    """This moment in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def narrow(project: Project, model: str) -> Config:
    """What of a project's configuration the training of a model needs."""
    config, chosen = project.config, project.config.models[model]
    return Config(
        project=config.project,
        goals={chosen.goal: config.goals[chosen.goal]},
        models={model: chosen},
        environments={project.env: config.environments.get(project.env, Environment())},
        train=config.train,
    )


def publish_config(store: Store, project: Project, model: str, scratch: Path) -> str:
    """Put what a model's steps need of the configuration into the store; the artifact's name, by its content."""
    data = msgspec.json.encode(narrow(project, model), order="sorted")
    return _publish_document(store, "config", CONFIG_FILE, data, scratch)


def _publish_document(store: Store, kind: str, file: str, data: bytes, scratch: Path) -> str:
    """Put one document into the store unless it is there; the artifact's name, by its content."""
    name = f"{kind}/{digest_bytes(data)[:40]}"
    if store.manifest(name) is None:
        (scratch / file).write_bytes(data)
        entry = FileEntry(file, len(data), digest_bytes(data))
        made = Manifest(name=name, kind=kind, attempt=short_id(), files=(entry,), task="", created=now_text())
        with suppress(LostRace):
            store.publish(made, scratch)
    return name


def _project(env: str, environment: Environment) -> Project:
    """Where a step runs, as far as it knows its environment and nothing else."""
    return Project(Path.cwd(), Config(environments={env: environment}), env, kept())


def _configured(project: Project, told: Payload, store: Store, scratch: Path) -> Project:
    """The project as it was configured when the run began."""
    manifest = _there(store, told.config)
    data = store.fetch(manifest, CONFIG_FILE, scratch / f"{_INPUT}{CONFIG_FILE}").read_bytes()
    return replace(project, config=msgspec.json.decode(data, type=Config))


def _task(told: Payload, project: Project) -> Task:
    """The task, checked to be what the run has named: nothing that it is made from may have changed since."""
    kind = find_task(told.task, project.folder)
    context = Context(project, told.model)
    task: Task = kind(context=context, model=told.model, period=told.period, point=told.point)
    changed = [
        what
        for what, now, then in (
            ("the project's code", task_code(kind, task.code_modules(), project.folder), told.code),
            ("what the step reads", task.external(), told.external),
            ("rdv.toml or a schema", canonical_parameters({**task.parameters(), "period": task.span}), told.parameters),
        )
        if now != then
    ]
    if changed:
        raise StepFailed(f"{changed[0]} changed while the run was under way", "run it again")
    return task


def read_inputs(told: Payload, store: Store, scratch: Path) -> tuple[Inputs, dict[str, str]]:
    """What a step reads, by role, and the digests of all that, for its manifest."""
    inputs, digests = {}, {}
    for role, name in told.upstream.items():
        manifest = _there(store, name)
        inputs[role] = Artifact(manifest, _Fetch(store, manifest, scratch, role))
        digests[role] = manifest.digest()
    return inputs, digests | told.external


def _there(store: Store, name: str) -> Manifest:
    manifest = store.manifest(name)
    if manifest is None:
        raise CorruptArtifact(f"artifact {name} is gone", "run again: it will be made again")
    return manifest


class _Fetch:
    """Fetches files of one artifact, each once."""

    def __init__(self, store: Store, manifest: Manifest, folder: Path, role: str) -> None:
        self._store, self._manifest, self._folder, self._role = store, manifest, folder, role
        self._files: dict[str, Path] = {}

    def __call__(self, path: str) -> Path:
        if path not in self._files:
            into = self._folder / f"{_INPUT}{self._role}-{len(self._files)}"
            self._files[path] = self._store.fetch(self._manifest, path, into)
        return self._files[path]


def make_manifest(
    told: Payload, task: Task, result: StepResult, upstream: Mapping[str, str], output: Path, began: float
) -> Manifest:
    """The manifest of what a step has written into a folder. upstream: the digests of what it read."""
    files = file_entries(output)
    if not files:
        raise StepFailed(f"{told.task} wrote no file", "write what it makes into output_folder")
    peak_kb = max(getrusage(RUSAGE_SELF).ru_maxrss, getrusage(RUSAGE_CHILDREN).ru_maxrss)
    return Manifest(
        name=told.name,
        kind=task.family,
        attempt=short_id(),
        files=files,
        task=told.task,
        parameters=told.parameters,
        upstream=dict(upstream),
        code=told.code,
        seed=task.context.model.seed,
        created=now_text(),
        run=told.run,
        metrics=result.metrics,
        libraries=_libraries(),
        cost=Cost(wall_s=round(monotonic() - began, 3), peak_memory_bytes=peak_kb * 1024),
        model=result.model,
        extra=result.extra,
    )


def _libraries() -> dict[str, str]:
    """The versions of what this process has imported and models depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        if name in sys.modules:
            found[name] = str(getattr(sys.modules[name], "__version__", ""))
    return found
