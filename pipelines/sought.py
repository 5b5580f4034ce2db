"""What a sweep looks for: which of its points have models, and which of these is the best.

The choice among many points is kept as an artifact of its own, named by what it was made among: reading a thousand
manifests again, from a store across the network, is what a run with nothing to do would spend its time on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from rdv.errors import CorruptArtifact, RdvError, StepFailed
from rdv.ids import digest_bytes, short_id
from rdv.manifest import Manifest
from rdv.pipelines.base import NotYet, Store, Task
from rdv.pipelines.metrics import Metric
from rdv.pipelines.names import parameters_text
from rdv.pipelines.naming import Naming
from rdv.pipelines.step import now_text

KEPT_FROM = 32
"""The choice among fewer points is made anew each time."""
_READERS = 8


class Sought:
    """The points of a sweep and what is best among them. train: the training task at any point.

    keep: where the choice is kept, None when nothing may be written.
    """

    def __init__(
        self, naming: Naming, train: Task, points: Sequence[str], metric: Metric, keep: Store | None = None
    ) -> None:
        self._naming, self._train, self.metric, self._keep = naming, train, metric, keep
        self.points = tuple(points)
        self._names: dict[str, str] = {}
        self._best = ""

    def pending(self) -> list[str]:
        """The points without a model."""
        left = [point for point in self.points if point not in self._names]
        if left:
            self._names |= self._naming.points_done(self._train, left)
        return [point for point in left if point not in self._names]

    def chosen(self) -> str:
        """The point with the best metric on the validation part, of equal ones the first; else NotYet."""
        if not self._best:
            if self.pending():
                raise NotYet
            self._best = self._kept_choice() or self._choose()
        return self._best

    def shown(self, point: str) -> str:
        """A point as its artifact's name shows it."""
        return shown(self._train.at(point))

    def name(self, point: str) -> str:
        """The artifact of a point that has one."""
        return self._names[point]

    def value(self, point: str) -> float | None:
        """The metric of a point's model on the validation part; None when it has none."""
        manifest = self._naming.catalog.look(self._names[point])
        return manifest.metrics.get(f"validation_{self.metric.name}") if manifest else None

    def _choose(self) -> str:
        best, chosen = None, ""
        with ThreadPoolExecutor(_READERS, "rdv-values") as pool:
            values = list(pool.map(self.value, self.points))
        for point, value in zip(self.points, values, strict=True):
            if value is not None and (best is None or (value > best if self.metric.maximise else value < best)):
                best, chosen = value, point
        if best is None:
            raise StepFailed(f"no model has a value of {self.metric.name}", "see `metric` of the model in rdv.toml")
        self._keep_choice(chosen)
        return chosen

    def _choice_name(self) -> str:
        """Models are never changed, so names, order and metric decide the choice."""
        among = [self.metric.name, self.metric.maximise, [self._names[point] for point in self.points]]
        return f"choice/{digest_bytes(msgspec.json.encode(among))[:40]}"

    def _kept_choice(self) -> str:
        if len(self.points) < KEPT_FROM:
            return ""
        with suppress(CorruptArtifact):
            if found := self._naming.catalog.look(self._choice_name()):
                point = found.extra.get("point")
                if point in self._names and self._names[point] == found.extra.get("artifact"):
                    return str(point)
        return ""

    def _keep_choice(self, point: str) -> None:
        if self._keep is None or len(self.points) < KEPT_FROM:
            return
        made = Manifest(
            name=self._choice_name(), kind="choice", attempt=short_id(), files=(), task="", created=now_text(),
            extra={"point": point, "artifact": self._names[point]},
        )  # fmt: skip
        with suppress(RdvError):  # somebody else's is the same one, and without any it is made anew
            self._keep.publish(made, Path())


def shown(task: Task) -> str:
    """The hyperparameters that a task's name shows, as text."""
    return parameters_text({name: value for name, value in task.values.items() if name in task.shown()})
