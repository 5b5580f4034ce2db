"""Tasks as Luigi sees them: identities that do not depend on what the process has seen before, and naming."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest

from rdv.backends.select import artifacts
from rdv.config import Config, Goal, Model, Project
from rdv.errors import ConfigError, NotFound, UsageError
from rdv.ids import digest_bytes
from rdv.manifest import FileEntry, Manifest
from rdv.pipelines.base import Context, NotYet, Task, class_path
from rdv.pipelines.names import parameters_text
from rdv.pipelines.naming import Catalog, Naming
from rdv.pipelines.runs.luigi_threads import forget_tasks
from rdv.pipelines.step import find_task
from rdv.pipelines.train import TrainTask, train_class

PERIOD = "day.2024-01-01"


class Source(Task):
    """A task that reads nothing."""

    family = "source"


class Middle(Task):
    """A task that reads another's artifact."""

    family = "middle"

    def upstream(self) -> dict[str, Task]:
        return {"source": self.sibling(Source)}


class Undecided(Task):
    """A task whose input is not decided yet."""

    def upstream(self) -> dict[str, Task]:
        raise NotYet


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with one goal and one model."""
    schema = {"type": "object", "properties": {"a": {"type": "number"}}}
    goal = Goal(schema=schema, budget_ms=1.0, default=0.5)
    return Project(tmp_path, Config(goals={"g": goal}, models={"g/m": Model(goal="g")}))


def task(project: Project, kind: type[Task] = Source, **point: object) -> Task:
    """A task at a point."""
    return kind(context=Context(project, "g/m"), model="g/m", period=PERIOD, point=parameters_text(point))


def make(project: Project, naming: Naming, made: Task) -> str:
    """Publish what a task would make; its artifact's name."""
    name = naming.name(made)
    assert name is not None
    key = naming.key(made)
    assert key is not None
    (project.folder / "file").write_text(name)
    entry = FileEntry("file", len(name), digest_bytes(name.encode()))
    manifest = Manifest(name=name, kind=made.family, attempt="a", files=(entry,), task=class_path(type(made)))
    artifacts(project).publish(manifest, project.folder)
    naming.catalog.look(name)
    return name


def test_identity_does_not_depend_on_what_was_seen_first(project: Project) -> None:
    """1, 1.0, true and their like are different tasks with different names, whichever the process meets first."""
    values = (1, 1.0, True, "1", -0.0, (1,), (1.0,), None)
    context = Context(project, "g/m")
    found = []
    for order in itertools.islice(itertools.permutations(values), 0, 5000, 700):
        forget_tasks()
        naming = Naming(Catalog(artifacts(project)), project.folder)
        made = {
            repr(value): naming.name(
                Source(context=context, model="g/m", period=PERIOD, point=parameters_text({"x": value}))
            )
            for value in order
        }
        found.append(made)
        assert len(set(made.values())) == len(values)
    assert all(one == found[0] for one in found)


def test_a_name_waits_for_what_is_read(project: Project) -> None:
    """A task has no name before its inputs exist, and then a name with their digests."""
    naming = Naming(Catalog(artifacts(project)), project.folder)
    middle = task(project, Middle)
    assert naming.name(middle) is None
    assert not naming.exists(middle)
    make(project, naming, middle.upstream()["source"])
    assert naming.name(middle) is not None
    assert naming.key(middle).upstream.keys() == {"source"}  # type: ignore[union-attr]
    assert naming.name(task(project, Undecided)) is None


def test_many_points_are_looked_up_by_one_listing(project: Project) -> None:
    """The points that exist are found without a task or a request for each."""
    calls: list[str] = []
    store = artifacts(project)
    points = [parameters_text({"x": n}) for n in range(20)]
    first = Naming(Catalog(store), project.folder)
    for point in points[:5]:
        make(project, first, task(project).at(point))

    class Counted:
        def names(self, prefix: str = "") -> set[str]:
            calls.append(prefix)
            return store.names(prefix)

        def manifest(self, name: str) -> Manifest | None:
            calls.append(name)
            return store.manifest(name)

    naming = Naming(Catalog(Counted()), project.folder)  # type: ignore[arg-type]
    done = naming.points_done(task(project), points)
    assert list(done) == points[:5]
    assert calls == [f"source/g/m/{PERIOD}/"]


def test_forced_names_are_the_next_generation(project: Project) -> None:
    """A forced run names what does not exist yet, and every later run uses the newest generation."""
    store = artifacts(project)
    names = []
    for force in (False, True, True):
        names.append(make(project, Naming(Catalog(store), project.folder, force), task(project)))
    assert names[1:] == [names[0] + ".2", names[0] + ".3"]
    plain = Naming(Catalog(store), project.folder)
    assert plain.name(task(project)) == names[2]
    assert plain.exists(task(project))


def test_the_training_task_of_a_model(project: Project, tmp_path: Path) -> None:
    """A model without a task has the built-in one of its flavour; a named task must be one."""
    context = Context(project, "g/m")
    assert train_class(context).__name__ == "LightGBMTask"
    for change, told in (({"flavour": "sum"}, "flavour"), ({"task": "rdv.pipelines.base:Task"}, "no training task")):
        context.model = msgspec.structs.replace(project.config.models["g/m"], **change)
        with pytest.raises(ConfigError, match=told):
            train_class(context)
    for path in ("nowhere:Task", "rdv.pipelines.base", "rdv.pipelines.base:Context", "rdv.pipelines.base:Gone"):
        with pytest.raises(UsageError, match="task"):
            find_task(path, tmp_path)
    with pytest.raises(NotFound, match="g/other"):
        Context(project, "g/other")


def test_hyperparameters_are_checked_against_the_defaults() -> None:
    """A task with defaults takes no other hyperparameters; one without takes any."""

    class Open(TrainTask):
        pass

    class Closed(TrainTask):
        defaults = {"depth": 3}

    Open.check_point({"anything": 1})
    Closed.check_point({"depth": 4})
    with pytest.raises(UsageError, match="depth"):
        Closed.check_point({"dept": 4})
