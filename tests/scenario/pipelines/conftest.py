"""Small service projects to train in, and runs of them, here or as processes of their own."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select
from rdv.config import Project
from rdv.ids import short_id
from rdv.manifest import Manifest
from rdv.pipelines.runs.events import Event
from rdv.pipelines.runs.runner import RunResult, TrainRequest, train
from rdv.settings import load_project

DATE = "2024-11-22"
SCHEMA = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "dose": {"type": ["number", "null"], "minimum": 0},
        "smoker": {"type": "boolean"},
        "ward": {"type": "string", "enum": ["north", "south", "west"]},
    },
    "required": ["age", "ward"],
}
# A regression model that is one number: training takes no time, so that what is tested is everything around it.
SUM_TASK = """
import json
from rdv.pipelines.task import TrainTask

class Sum(TrainTask):
    defaults = {"offset": 0.0}

    def run_step(self, inputs, output_folder, params):
        from rdv.pipelines.task import load_features
        (output_folder / "model.json").write_text(json.dumps({"offset": params["offset"]}))
        return load_features(inputs["features"]).model_info("model.json", "sum")
"""
GO = """
import sys
from pathlib import Path
from rdv.pipelines.runs.runner import TrainRequest, train
from rdv.settings import load_project
import msgspec
request = msgspec.json.decode(sys.argv[2], type=TrainRequest)
sys.exit(int(train(load_project(Path(sys.argv[1])), request).exit))
"""


@dataclass
class Clinic:
    """A project in a folder of its own. module: where its tasks are, a name that no other test uses."""

    folder: Path
    module: str = field(default_factory=lambda: f"tasks_{short_id()}")
    events: list[Event] = field(default_factory=list)

    def write(self, models: str, goal: str = 'answer = "probability"\ndefault = 0.5', train: str = "") -> Clinic:
        """Write rdv.toml; `models` may say MODULE for the module of tasks."""
        (self.folder / "rdv.toml").write_text(
            f'project = "clinic"\n[goals.visit]\nschema = "visit.json"\nbudget_ms = 80\n{goal}\n'
            f"[train]\n{train}\n{models.replace('MODULE', self.module)}"
        )
        (self.folder / "visit.json").write_text(json.dumps(SCHEMA))
        return self

    def set(self, line: str) -> None:
        """Add a line to the model's settings."""
        text = (self.folder / "rdv.toml").read_text()
        (self.folder / "rdv.toml").write_text(text.replace('goal = "visit"\n', f'goal = "visit"\n{line}\n', 1))

    def code(self, text: str, module: str = "") -> Clinic:
        """Write the module of tasks."""
        (self.folder / f"{module or self.module}.py").write_text(text)
        return self

    def data(self, rows: int = 400, seed: int = 0) -> Clinic:
        """Write data.csv: age, dose (with holes), smoker, ward; seen (0 or 1), place (three labels), days (number)."""
        lots = random.Random(seed)
        with (self.folder / "data.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["age", "dose", "smoker", "ward", "seen", "place", "days"])
            for _ in range(rows):
                age, dose, smoker = lots.randint(0, 100), round(lots.random() * 10, 3), lots.random() < 0.4
                ward = lots.choice(["north", "south", "west"])
                risk = age / 100 + smoker * 0.5 + (ward == "west") * 0.4 + lots.gauss(0, 0.1)
                place = "home" if risk < 0.6 else "ward" if risk < 1.1 else "icu"
                shown = "" if lots.random() < 0.1 else dose
                writer.writerow(
                    [age, shown, str(smoker).lower(), ward, int(risk > 0.8), place, round(risk * 10 + dose, 4)]
                )
        return self

    def project(self, **overrides: str) -> Project:
        """The project as it is configured now."""
        return load_project(self.folder, overrides=overrides)

    def train(self, *settings: str, model: str = "visit/m", **request: Any) -> RunResult:
        """Train here, for one and the same day unless told; the events are kept."""
        self.events.clear()
        asked = TrainRequest(model=model, settings=settings, **{"date": DATE, **request})
        return train(self.project(), asked, self.events.append)

    def start(self, *settings: str, model: str = "visit/m", **request: Any) -> subprocess.Popen[bytes]:
        """Train in a process of its own."""
        import msgspec

        asked = msgspec.json.encode(TrainRequest(model=model, settings=settings, **{"date": DATE, **request})).decode()
        return subprocess.Popen(
            [sys.executable, "-P", "-c", GO, str(self.folder), asked],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def manifests(self, family: str = "") -> dict[str, Manifest]:
        """Every artifact of a family, by name."""
        store = select.artifacts(self.project())
        found = {name: store.manifest(name) for name in store.names(f"{family}/" if family else "")}
        return {name: manifest for name, manifest in sorted(found.items()) if manifest is not None}

    def damage(self) -> list[str]:
        """What is wrong with any artifact that exists."""
        store = select.artifacts(self.project())
        return [problem for name in store.names() for problem in store.verify(name)]

    def versions(self, model: str = "visit/m") -> list[str]:
        """The published versions of a model."""
        return [key.rpartition("/")[2] for key in select.registry(self.project()).list(f"models/{model}/versions/")]

    def kinds(self, kind: str) -> list[str]:
        """The families of the steps that the last training here told of with a kind of event."""
        return [event.task for event in self.events if event.kind == kind]


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """A project folder with data; what it put into this interpreter is taken out again."""
    before, path = set(sys.modules), list(sys.path)
    yield Clinic(tmp_path).data()
    sys.path[:] = path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and str(tmp_path) in file:
            del sys.modules[name]


@pytest.fixture
def sums(clinic: Clinic) -> Clinic:
    """A project whose one model is a number, trained in no time."""
    return clinic.code(SUM_TASK).write(
        '[models."visit/m"]\ngoal = "visit"\nflavour = "sum"\ntask = "MODULE:Sum"\ndata = "data.csv"\nlabel = "days"\n'
        'metric = "rmse"\nexclude = ["ward", "dose", "smoker"]\n',
        'answer = "number"\ndefault = 0.0',
    )


@pytest.fixture
def sum_task() -> str:
    """The source of the module that `sums` trains with."""
    return SUM_TASK
