"""When a run counts as over, for the steps that it has left on a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import ManualClock
from rdv.config import Config, Project
from rdv.pipelines.runs.joins import Joins
from rdv.pipelines.runs.leftovers import Leftovers
from rdv.pipelines.runs.records import RunFolder, RunRecord
from rdv.pipelines.runs.shared import SILENT_S, SharedRuns

NOW_S = 1_700_000_000.0


def text(moment_s: float) -> str:
    """A moment as records have it."""
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds")


def test_runs_of_this_machine(tmp_path: Path) -> None:
    """A run that goes on has no end, a lost one ended with its last sign of life, and unknown ones are not ours."""
    project = Project(tmp_path, Config())
    left = Leftovers(project, SqliteRegistry(tmp_path / "registry.sqlite"))
    going, lost = RunFolder(project.state, "going"), RunFolder(project.state, "lost")
    for folder in (going, lost):
        folder.write(RunRecord(run=folder.path.name, model="m"))
    lost.close()
    over = RunFolder(project.state, "over")
    over.write(RunRecord(run="over", model="m", state="done", ended=text(NOW_S)))
    over.close()
    assert left.ended_s("going") is None
    assert left.ended_s("lost") == (lost.path / "events.jsonl").stat().st_mtime
    assert left.ended_s("over") == NOW_S
    assert [left.ended_s(one) for one in ("unknown", "", "../x")] == [None] * 3
    going.close()


def test_runs_of_other_machines(tmp_path: Path) -> None:
    """Where records are shared, a run that is silent is over since it fell silent, and a joined step is awaited."""
    clock, registry = ManualClock(wall_s=NOW_S), SqliteRegistry(tmp_path / "registry.sqlite")
    left, shared = Leftovers(Project(tmp_path, Config()), registry), SharedRuns(registry, clock)
    left._shared = shared
    shared.put(RunRecord(run="silent", model="m"))
    assert left.ended_s("silent") is None
    clock.advance(SILENT_S + 1)
    assert left.ended_s("silent") == NOW_S
    shared.put(RunRecord(run="living", model="m"))
    Joins(shared, "living").add("train/a")
    Joins(shared, "silent").add("train/b")
    assert left.ended_s("living") is None
    assert [left.is_awaited(one) for one in ("train/a", "train/b", "train/c")] == [True, False, False]
