"""One task by itself: given input artifacts, hyperparameters and the name of its output, as a job runs it.

Nothing is looked up or decided here: what the task reads is what it is told to read. The artifact is published under
the name that was given, if and only if there is none of that name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from rdv.backends import select
from rdv.config import Environment, Project
from rdv.errors import LostRace, NotFound, UsageError
from rdv.pipelines.base import Artifact, Context, Inputs, Store, Task, class_path
from rdv.pipelines.names import Value, canonical_parameters, parameters_text
from rdv.pipelines.naming import task_code
from rdv.pipelines.periods import parse_period, period_of
from rdv.pipelines.scratch import scratch_folder
from rdv.pipelines.step import Payload, find_task, make_manifest, read_inputs
from rdv.pipelines.sweep import coerce
from rdv.pipelines.train import TrainTask
from rdv.settings import load_project

_ROLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HINT = "give every input as ROLE=ARTIFACT, several with a comma between them"


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a dispatch asks for. inputs: `role=artifact,role=artifact`. output: the artifact's name. period: as in

    names, empty: the present one. reads: roles that the task is known to read. run: the dispatch's own name.
    """

    env: str
    model: str
    task: str
    inputs: str
    output: str
    run: str
    period: str = ""
    reads: tuple[str, ...] = ()
    parameters: dict[str, bool | int | float | str | None] = {}


def run(payload: dict[str, Any]) -> None:
    """The entry: make the artifact under the name that was asked for."""
    asked = msgspec.convert(payload, Asked)
    began = monotonic()
    project = load_project(Path.cwd(), asked.env)
    store: Store = select.artifacts(project)
    if is_done(store, asked):
        print(f"{asked.output} was published before this process was started again")
        return
    task = _task(project, asked)
    told = _payload(project, asked, task)
    with scratch_folder(project.state) as scratch:
        for role, name in told.upstream.items():
            if store.manifest(name) is None:
                raise NotFound(f"input {role}: there is no artifact {name}", f"see `rdv artifacts list {name}`")
        inputs, digests = read_inputs(told, store, scratch)
        result = task.execute(_Given(inputs), scratch)
        store.publish(make_manifest(told, task, result, digests, scratch, began), scratch)
    print(f"published {asked.output}")


def is_done(store: Store, asked: Asked) -> bool:
    """Whether this very dispatch has published its output already; LostRace when somebody else has."""
    there = store.manifest(asked.output)
    if there is None:
        return False
    if there.run != asked.run:
        raise LostRace(f"artifact {asked.output} exists already, made by {there.run or 'nobody known'}", "name another")
    return True


def parse_inputs(text: str, reads: Collection[str] = ()) -> dict[str, str]:
    """Role to artifact of `role=name,role=name`; UsageError for what is none.

    A name may hold commas and `=` itself, in its last segment: after a comma a new pair begins where the role is one
    of `reads`, or where a name with a slash follows.
    """
    found: dict[str, str] = {}
    last = ""
    for part in text.split(",") if text else []:
        role, equals, name = part.partition("=")
        if equals and _ROLE.fullmatch(role) and (role in reads or "/" in name or not last):
            if role in found:
                raise UsageError(f"input {role} is given twice", _HINT)
            found[role], last = name, role
        elif last:
            found[last] += f",{part}"
        else:
            raise UsageError(f"{text!r} names no inputs", _HINT)
    if empty := [role for role, name in found.items() if not name]:
        raise UsageError(f"input {empty[0]} has no artifact", _HINT)
    return found


class _Given(dict[str, Artifact]):
    """The inputs; one that was not given is the fault of who dispatched."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)

    def __missing__(self, role: str) -> Artifact:
        raise UsageError(f"the task reads {role!r}, which is not among its inputs ({', '.join(self) or 'none'})", _HINT)


def _task(project: Project, asked: Asked) -> Task:
    kind = find_task(asked.task, project.folder)
    if asked.period and parse_period(asked.period) is None:
        raise UsageError(f"{asked.period!r} is no period", "write it as in names, for example day.2024-11-22")
    period = asked.period or period_of(datetime.now(UTC), project.config.train.granularity).text()
    context = Context(project, asked.model)
    point = parameters_text(hyperparameters(kind, context.model.params, asked.parameters))
    made: Task = kind(context=context, model=asked.model, period=period, point=point)
    return made


def hyperparameters(
    kind: type[Task], configured: Mapping[str, Value], given: Mapping[str, Value]
) -> dict[str, Value]:
    """A task's hyperparameters: a training's defaults, over them rdv.toml's, over them what was given."""
    if not issubclass(kind, TrainTask):
        return dict(given)
    kind.check_point({**configured, **given})
    defaults = kind.defaults
    return {**defaults, **{name: coerce(name, value, defaults) for name, value in {**configured, **given}.items()}}


def _payload(project: Project, asked: Asked, task: Task) -> Payload:
    kind = type(task)
    return Payload(
        name=asked.output,
        task=class_path(kind),
        model=asked.model,
        period=task.period,
        point=task.point,
        upstream=parse_inputs(asked.inputs, asked.reads),
        external=task.external(),
        parameters=canonical_parameters({**task.parameters(), "period": task.span}),
        code=task_code(kind, task.code_modules(), project.folder),
        config="",
        env=project.env,
        environment=project.config.environments.get(project.env, Environment()),
        run=asked.run,
    )

