"""Right-sized memory on a real Nomad: each step reserves what it needs, for its own time only."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select
from rdv.errors import Exit
from rdv.pipelines.memory import Peaks
from rdv.pipelines.runs.runner import TrainRequest, train
from rdv.settings import load_project

pytestmark = pytest.mark.live
SETTINGS = """
[train]
memory_mb = [512, 2048]
[goals.sum]
schema = "schema.json"
budget_ms = 80
default = 0.0
answer = "number"
[models.sum]
goal = "sum"
task = "tasks_of_two_sizes:Large"
data = "rows.csv"
label = "total"
[environments.dev]
artifacts = "dir:{folder}/store"
cluster = "nomad:{place}"
"""
TASKS = '''
import json, time
from rdv.pipelines.task import FeaturesTask, FileDatasetTask, TrainTask, load_features

def hold(mb, seconds):
    held = b"x" * (mb << 20)
    time.sleep(seconds)
    return len(held)

class Rows(FileDatasetTask):
    def run_step(self, inputs, output_folder, params):
        hold(300, 4)
        return super().run_step(inputs, output_folder, params)

class Columns(FeaturesTask):
    dataset_task = Rows

class Large(TrainTask):
    features_task = Columns

    def run_step(self, inputs, output_folder, params):
        hold(1500, 1)
        (output_folder / "model.json").write_text(json.dumps({"offset": 0.0}))
        return load_features(inputs["features"]).model_info("model.json", "sum")
'''


def make_project(folder: Path, place: str) -> Any:
    """A project whose first step needs 300 MB and whose training needs 1,500 MB."""
    fields = {name: {"type": "number"} for name in ("a", "b")}
    folder.joinpath("schema.json").write_text(
        json.dumps({"type": "object", "properties": fields, "required": list(fields)})
    )
    rows = "".join(f"{at},{at * 2},{at * 3}\n" for at in range(60))
    folder.joinpath("rows.csv").write_text(f"a,b,total\n{rows}")
    folder.joinpath("tasks_of_two_sizes.py").write_text(TASKS)
    folder.joinpath("rdv.toml").write_text(SETTINGS.format(folder=folder, place=place))
    return load_project(folder, "dev")


def reservations(nomad: Any) -> list[tuple[str, int, float]]:
    """What each allocation has reserved: the step's name, MB, seconds."""
    found = []
    for short in nomad.call("GET", "/v1/allocations").json():
        whole = nomad.call("GET", f"/v1/allocation/{short['ID']}").json()
        memory_mb = int(whole["AllocatedResources"]["Tasks"]["step"]["Memory"]["MemoryMB"])
        state = whole["TaskStates"]["step"]
        begun, ended = (datetime.fromisoformat(state[name][:19]) for name in ("StartedAt", "FinishedAt"))
        name = whole["Job"]["Meta"]["rdv_step"].rpartition(".")[2].rpartition("-")[0]
        found.append((name, memory_mb, max(1.0, (ended - begun).total_seconds())))
    return found


def test_a_step_reserves_what_it_needs_and_no_longer_than_it_runs(
    nomad_bench: Callable[[Path], Any], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A step of 300 MB and one of 1,500 MB hold less than one container of the larger one's size would.

    The larger one is tried in the smaller class first, as nothing is known of it: it is told to have run out of memory,
    runs one class up, and goes there at once the next time.
    """
    nomad = nomad_bench(tmp_path)
    project = make_project(tmp_path, nomad.place())
    events: list[Any] = []
    result = train(project, TrainRequest(model="sum", date="2024-01-01"), events.append)
    assert result.exit is Exit.OK, result.record.error
    again = [one for one in events if one.kind == "again"]
    assert [(one.task, one.text.partition(":")[0]) for one in again] == [("train", "out_of_memory")]
    assert "again with 2048 MB" in again[0].text
    assert Peaks(select.registry(project)).choose("train/sum", (512, 2048)) == 2048
    assert Peaks(select.registry(project)).choose("dataset/sum", (512, 2048)) == 512
    held = reservations(nomad)
    assert sorted(mb for name, mb, _ in held if name == "train") == [512, 2048]
    ours, whole = sum(mb * s for _, mb, s in held), sum(2048 * s for _, _, s in held)
    report = f"{ours:,.0f} MB s reserved over {len(held)} steps, {whole:,.0f} MB s by one container of 2,048 MB"
    record_property("memory", report)
    print(report)
    assert ours < 0.7 * whole
