"""Plans: the tree of a run that is not made, each step done, to be run and why, or missing an input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import msgspec

from rdv.backends import select
from rdv.config import Project
from rdv.errors import RdvError, Refused
from rdv.manifest import Manifest
from rdv.pipelines.base import NotYet, Task
from rdv.pipelines.evaluate import EvaluateTask
from rdv.pipelines.names import explain_difference, name_prefix, nearest
from rdv.pipelines.naming import Catalog, Naming
from rdv.pipelines.publish import PublishTask, champion_artifact, published_version, version_record
from rdv.pipelines.runs.runner import Prepared, TrainRequest
from rdv.pipelines.sought import Sought, shown
from rdv.pipelines.validate import ValidateTask

Standing = Literal["done", "would run", "missing input"]
_COMPARED = 20
_EXPLAINED = 50


class PlanNode(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan. why: what part of its name changed, or what it waits for. needs: what it reads.

    A step that several need is below the first of them; `artifact` is empty while its name is not known.
    """

    task: str
    point: str = ""
    standing: Standing
    why: tuple[str, ...] = ()
    artifact: str = ""
    needs: tuple[PlanNode, ...] = ()


def plan(project: Project, request: TrainRequest) -> PlanNode:
    """What `train` would do with a request, as a tree whose root publishes. Nothing is written or run."""
    return _Plan(project, request).root()


def nodes(node: PlanNode) -> Iterator[PlanNode]:
    """All nodes of a plan, a node before what it needs."""
    yield node
    for below in node.needs:
        yield from nodes(below)


class _Plan:
    """What a plan looks at while it is made. It is the context's maker as far as naming asks one."""

    def __init__(self, project: Project, request: TrainRequest) -> None:
        self._prepared = prepared = Prepared(project, request)
        self._store, self._registry = select.artifacts(project), select.registry(project)
        self._naming = Naming(Catalog(self._store), project.folder, request.force)
        self._champion = champion_artifact(self._registry, request.model)
        prepared.context.maker = self
        self._root = PublishTask(context=prepared.context, model=request.model, period=prepared.period.text(), point="")
        self._sought = Sought(self._naming, self._root.sibling(prepared.train), prepared.points(), prepared.metric)
        self._seen: set[tuple[type[Task], str]] = set()
        self._earlier: dict[str, list[Manifest]] = {}
        self._explained = 0

    def root(self) -> PlanNode:
        """The whole tree."""
        below = self._node(self._root.sibling(ValidateTask))
        if below is None or below.standing != "done":
            return PlanNode(
                task="publish", standing="would run", why=("the verdict is not there yet",), needs=_some(below)
            )
        why = "" if self.published(self._root) else "it is not in the registry yet"
        return PlanNode(
            task="publish", standing="would run" if why else "done", why=(why,) if why else (), needs=_some(below)
        )

    def pending(self) -> list[str]:
        """The points without a model; all of them while the features are missing."""
        return self._sought.pending()

    def chosen(self) -> str:
        """The best point; NotYet while one is pending."""
        return self._sought.chosen()

    def champion(self) -> str:
        """The name of the artifact that is served now."""
        return self._champion

    def exists(self, task: Task) -> bool:
        """Whether a task's artifact exists."""
        return self._naming.exists(task)

    def published(self, task: Task) -> bool:
        """Whether the chosen model is in the registry."""
        validate = task.sibling(ValidateTask)
        read = self._naming.upstream(validate)
        if read is None:
            return False
        record = version_record(task.model, read["model"], task.span, {}, "")
        there = published_version(self._registry, record.model, record.version)
        return there is not None and there.artifact == record.artifact

    def make(self, task: Task) -> None:
        """A plan makes nothing."""
        raise Refused(f"a plan does not run {task.family}")

    def publish(self, task: Task) -> None:
        """A plan publishes nothing."""
        raise Refused(f"a plan does not run {task.family}")

    def stop(self, task: Task) -> None:
        """There is nothing to stop."""

    def _node(self, task: Task) -> PlanNode | None:
        """A task's node; None when it is in the tree already."""
        mark = (type(task), task.point)
        if mark in self._seen:
            return None
        self._seen.add(mark)
        needs = tuple(node for one in self._needs(task) if (node := self._node(one)) is not None)
        name: str | None = None
        why: tuple[str, ...] = ()
        standing: Standing = "would run"
        try:
            name = self._naming.name(task)
            if name is not None and self._naming.catalog.has(name):
                standing = "done"
            else:
                why = self._why(task, name)
        except RdvError as error:
            below = [node.task for node in needs if node.standing == "missing input"]
            standing, why = "missing input", tuple(f"waits for {one}" for one in below) or (str(error),)
        return PlanNode(
            task=task.family, point=shown(task), standing=standing, why=why, artifact=name or "", needs=needs
        )

    def _needs(self, task: Task) -> list[Task]:
        """What a task waits for; the choice among a sweep's models waits for every point."""
        if isinstance(task, EvaluateTask):
            return [task.sibling(self._prepared.train, point) for point in self._sought.points]
        return task.requires() if isinstance(task, ValidateTask) else list(task.upstream().values())

    def _why(self, task: Task, name: str | None) -> tuple[str, ...]:
        """Which part of the name changed, against the nearest artifact of the same kind; or what is waited for."""
        if name is not None and name.rpartition(".")[2].isdigit() and self._prepared.request.force:
            return ("it is forced",)
        self._explained += 1
        if self._explained > _EXPLAINED:
            return ()
        waits = []
        with suppress(NotYet):
            waits = [
                f"{role} is not there yet" for role, one in task.upstream().items() if not self._naming.exists(one)
            ]
        key = self._naming.partial_key(task)
        earlier = nearest(key, self._same_kind(name_prefix(key, period=False)))
        if earlier is None:
            return (*waits, "it was never made")
        known = {role for role, digest in key.upstream.items() if digest}
        seen = msgspec.structs.replace(
            earlier, upstream={role: digest for role, digest in earlier.upstream.items() if role in known}
        )
        key = msgspec.structs.replace(key, upstream={role: key.upstream[role] for role in known & seen.upstream.keys()})
        return (*waits, *explain_difference(seen, key))

    def _same_kind(self, prefix: str) -> list[Manifest]:
        if prefix not in self._earlier:
            names = sorted(self._naming.catalog.list(prefix), reverse=True)[:_COMPARED]
            self._earlier[prefix] = [one for name in names if (one := self._store.manifest(name)) is not None]
        return self._earlier[prefix]


def _some(node: PlanNode | None) -> tuple[PlanNode, ...]:
    return () if node is None else (node,)
