"""The task that all pipeline tasks are made from: a Luigi task whose work is done in a step elsewhere.

In the pipeline's process a task says what it needs and what decides its bytes; `run` hands the work to the cluster
and waits. In the step's process the same class does the work in `run_step`. Luigi sees strings only, in canonical
form, so that no task's identity depends on what else the process has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import luigi
import msgspec
from luigi.parameter import ParameterVisibility

from rdv.config import Goal, Model, ModellingGoal, Project
from rdv.errors import ConfigError, NotFound
from rdv.manifest import Manifest, ModelInfo
from rdv.pipelines.names import Value, parse_parameters
from rdv.pipelines.periods import Period, parse_period

AnyTask = TypeVar("AnyTask", bound="Task")


class Store(Protocol):
    """The part of an artifact store that pipelines use."""

    def manifest(self, name: str) -> Manifest | None:
        """An artifact's manifest, None when there is no such artifact."""
        ...

    def publish(self, manifest: Manifest, folder: Path) -> Manifest:
        """Upload an artifact's files and then create its manifest; LostRace when it exists."""
        ...

    def fetch(self, manifest: Manifest, path: str, into: Path) -> Path:
        """A verified local copy of one file."""
        ...

    def names(self, prefix: str = "") -> set[str]:
        """The names of all artifacts with a prefix."""
        ...

    def verify(self, name: str) -> list[str]:
        """What is wrong with an artifact."""
        ...


@dataclass(frozen=True)
class Artifact:
    """One input of a step. `fetch` gives a local, verified, read-only file for a path in the artifact.

    kept: what a step has read from it and may need again.
    """

    manifest: Manifest
    fetch: Callable[[str], Path]
    kept: dict[str, Any] = field(default_factory=dict)


Inputs = Mapping[str, Artifact]
"""Role to artifact: what a step was given, as its task's `upstream` named it."""


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a step tells about the files that it wrote: metrics, the model among them, anything else worth keeping."""

    metrics: dict[str, float] = {}
    model: ModelInfo | None = None
    extra: dict[str, Any] = {}


class Setting:
    """What a task may know: the project, one of its models, and the model's goal."""

    def __init__(self, project: Project, model: str) -> None:
        self.project, self.name = project, model
        self.model: Model = _known("model", project.config.models, model)
        self.goal: Goal = _known("goal", project.config.goals, self.model.goal)

        self.modelling: ModellingGoal = _known(
            "modelling goal", self.goal.modelling_goals(self.model.goal), self.model.topic()
        )


class NotYet(Exception):
    """What a task would read is not decided before other tasks are done."""


class Maker(Protocol):
    """What a task asks of the run that it belongs to; in a step's process there is none."""

    def pending(self) -> list[str]:
        """The points of the sweep that have no model yet, as canonical text."""
        ...

    def chosen(self) -> str:
        """The point that is best on the validation part; NotYet while one is pending."""
        ...

    def champion(self) -> str:
        """The name of the artifact that the model's pointer leads to, empty when there is none."""
        ...

    def make(self, task: Task) -> None:
        """Return when the task's artifact exists; else raise."""
        ...

    def exists(self, task: Task) -> bool:
        """Whether the task's artifact exists."""
        ...

    def published(self, task: Task) -> bool:
        """Whether the model that a publishing task is about is in the registry."""
        ...

    def publish(self, task: Task) -> None:
        """Put it there; Refused when its verdict says no."""
        ...

    def stop(self, task: Task) -> None:
        """Make `make` return soon."""
        ...


class Context(Setting):
    """A setting and, in the pipeline's process, the run."""

    def __init__(self, project: Project, model: str, maker: Maker | None = None) -> None:
        super().__init__(project, model)
        self.maker = maker
        self.schema: Any = None

    def run(self) -> Maker:
        """The run; only the pipeline's process has one."""
        if self.maker is None:
            raise ConfigError("a step cannot run other tasks", "name what it needs in `upstream`")
        return self.maker


class _ContextParameter(luigi.Parameter):
    """Hands the run to a task without being part of what the task is."""

    def __init__(self) -> None:
        super().__init__(significant=False, visibility=ParameterVisibility.PRIVATE)

    def serialize(self, x: object) -> str:
        return ""

    def _warn_on_wrong_param_type(self, param_name: str, param_value: object) -> None:
        return


_PARAMS: dict[type, list[tuple[str, luigi.Parameter]]] = {}


class Task(luigi.Task):
    """A step of a pipeline that makes one artifact.

    A subclass sets `family` (the first part of its artifacts' names) and `version` (to be raised when its meaning
    changes), and writes `upstream`, `parameters` and `run_step`. model, period, point: canonical text; read them as
    `self.context`, `self.span`, `self.values`.
    """

    family: ClassVar[str] = "task"
    version: ClassVar[str] = "1"
    entry: ClassVar[str] = "rdv.pipelines.entry:run"
    """How its step's process is entered; what that module imports, a fork server has imported before."""

    if TYPE_CHECKING:
        context: Context
        model: str
        period: str
        point: str
    else:
        context = _ContextParameter()
        model = luigi.Parameter()
        period = luigi.Parameter()
        point = luigi.Parameter(default="")

    @classmethod
    def get_params(cls) -> list[tuple[str, luigi.Parameter]]:
        """Luigi's question, some twenty times a task: its parameters. They are the same for every task of a class."""
        if cls not in _PARAMS:
            _PARAMS[cls] = super().get_params()  # type: ignore[no-untyped-call]
        return _PARAMS[cls]

    @cached_property
    def values(self) -> dict[str, Value]:
        """The task's hyperparameters."""
        return parse_parameters(self.point)

    @property
    def span(self) -> Period:
        """The period that the run is for."""
        period = parse_period(self.period)
        assert period is not None, self.period
        return period

    @property
    def scope(self) -> str:
        """What the artifact belongs to, the second part of its name: the model, unless several models share it."""
        return self.model

    def sibling(self, kind: type[AnyTask], point: str = "") -> AnyTask:
        """Another task of the same model and period."""
        made: AnyTask = kind(context=self.context, model=self.model, period=self.period, point=point)
        return made

    def at(self, point: str) -> Self:
        """The same task at another point, to be named, not to be run: it lacks what Luigi adds to a task."""
        copy = object.__new__(type(self))
        copy.context, copy.model, copy.period, copy.point = self.context, self.model, self.period, point
        return copy

    def upstream(self) -> dict[str, Task]:
        """The tasks whose artifacts the step reads, by role; a role's digest is part of the name. May raise NotYet."""
        return {}

    def artifacts(self) -> dict[str, str]:
        """Names of artifacts that the step reads and that no task of this run makes, by role."""
        return {}

    def external(self) -> dict[str, str]:
        """Digests of what the step reads beside artifacts, by role."""
        return {}

    def parameters(self) -> dict[str, Value]:
        """Everything else that decides the artifact's bytes; the period is added to it."""
        return self.values

    def shown(self) -> tuple[str, ...]:
        """The parameters that stand in the name's readable part."""
        return tuple(self.values)

    def code_modules(self) -> tuple[str, ...]:
        """Further modules of the project that the step calls, such as those of the enricher's functions."""
        return ()

    def run_step(
        self, inputs: Inputs, output_folder: Path, params: Mapping[str, Value]
    ) -> StepResult | ModelInfo | None:
        """Do the work: read inputs, write files into the output folder. Runs in the step's process."""
        raise NotImplementedError(f"{type(self).__name__}.run_step")

    def execute(self, inputs: Inputs, output_folder: Path) -> StepResult:
        """Run the step and return what it told."""
        told = self.run_step(inputs, output_folder, self.parameters())
        return StepResult(model=told) if isinstance(told, ModelInfo) else told or StepResult()

    def requires(self) -> list[Task]:
        """Luigi's question: what must be there first."""
        return list(self.upstream().values())

    def complete(self) -> bool:
        """Luigi's question: whether the manifest exists."""
        return self.context.run().exists(self)

    def output(self) -> list[luigi.Target]:
        """Nothing that Luigi could look at: `complete` reads the manifest."""
        return []

    def run(self) -> None:
        """Luigi's order: make it. Hands the step to the cluster and waits for it."""
        self.context.run().make(self)

    def stop(self) -> None:
        """Make `run` return soon."""
        self.context.run().stop(self)


def class_path(kind: type) -> str:
    """`module:Class`, by which a step's process finds the task again."""
    return f"{kind.__module__}:{kind.__qualname__}"


def _known(what: str, table: Mapping[str, Any], name: str) -> Any:
    if name not in table:
        raise NotFound(f"there is no {what} {name!r}", f"rdv.toml has {', '.join(sorted(table)) or 'none'}")
    return table[name]
