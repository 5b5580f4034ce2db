"""What a grid costs: a thousand points that are done already, and two hundred small LightGBM trainings.

Every figure is of a process of its own, from its start to its end. Beside the trainings stands a plain Luigi
pipeline that does the same with the same rows and parameters, in forked task processes that have LightGBM imported: it
reads the file once, trains, scores the validation rows, writes the model. It has no manifests, digests or gate.
"""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import median
from idle import IdleTimer

WORKERS, ROWS, FEATURES, TREES = 2, 2000, 30, 20
POINTS = 1000
_SETTINGS = """
project = "bench"
[train]
max_parallel = {workers}
[goals.yes]
schema = "schema.json"
budget_ms = 80
default = 0.5
[goals.sum]
schema = "schema.json"
budget_ms = 80
default = 0.0
answer = "number"
[models.sum]
goal = "sum"
task = "bench_sum:Sum"
data = "rows.csv"
label = "total"
[models.yes]
goal = "yes"
data = "rows.csv"
label = "yes"
[models.yes.params]
num_iterations = {trees}
"""
_SUM = """
import json
from rdv.pipelines.task import TrainTask, load_features

class Sum(TrainTask):
    defaults = {"offset": 0.0}

    def run_step(self, inputs, output_folder, params):
        (output_folder / "model.json").write_text(json.dumps({"offset": params["offset"]}))
        return load_features(inputs["features"]).model_info("model.json", "sum")
"""
_TRAIN = """
import sys
from pathlib import Path
from rdv.pipelines.runs.runner import TrainRequest, train
from rdv.settings import load_project
folder, env, model, *settings = sys.argv[1:]
result = train(load_project(Path(folder), env), TrainRequest(model=model, settings=tuple(settings), date="2024-01-01"))
print(result.record.trained, result.record.points, result.record.error)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(int(result.exit))
"""
_LUIGI = """
import json, sys
import lightgbm, luigi, numpy

folder, rows, trees = sys.argv[1], sys.argv[2], int(sys.argv[3])
seeds = range(int(sys.argv[4]))
config = {"num_leaves": 31, "objective": "binary", "deterministic": True, "force_row_wise": True, "num_threads": 1,
          "verbosity": -1, "feature_pre_filter": False}

class Rows(luigi.Task):
    def output(self):
        return luigi.LocalTarget(f"{folder}/rows.npy", format=luigi.format.Nop)
    def run(self):
        with self.output().open("w") as file:
            numpy.save(file, numpy.loadtxt(rows, delimiter=",", skiprows=1))

class Train(luigi.Task):
    rate = luigi.FloatParameter()
    def requires(self):
        return Rows()
    def output(self):
        return luigi.LocalTarget(f"{folder}/{self.rate}.txt")
    def run(self):
        with self.input().open() as file:
            table = numpy.load(file)
        part = numpy.arange(len(table)) % 5
        matrix, answers = table[:, :-2], table[:, -1]
        data = lightgbm.Dataset(matrix[part < 3], answers[part < 3], params=config)
        booster = lightgbm.train({**config, "learning_rate": self.rate}, data, trees)
        scores = booster.predict(matrix[part == 3])
        with self.output().open("w") as file:
            file.write(json.dumps(float(numpy.mean((scores - answers[part == 3]) ** 2))) + chr(10))
            file.write(booster.model_to_string())

if __name__ == "__main__":
    rates = [round(0.01 + 0.001 * at, 3) for at in seeds]
    assert luigi.build([Train(rate=rate) for rate in rates], workers=2, local_scheduler=True, log_level="ERROR")
"""


def make_project(folder: Path) -> None:
    """A project with made-up rows of 30 numbers, one model that is a number and one of LightGBM."""
    lots = random.Random(0)
    names = [f"x{at}" for at in range(FEATURES)]
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "total", "yes"])
        for _ in range(ROWS):
            row = [round(lots.random(), 6) for _ in names]
            writer.writerow([*row, round(sum(row), 6), int(sum(row[:5]) + lots.gauss(0, 0.3) > 2.5)])
    fields = {name: {"type": "number"} for name in names}
    schema = {"type": "object", "properties": fields, "required": names}
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "bench_sum.py").write_text(_SUM)
    (folder / "rdv.toml").write_text(_SETTINGS.format(workers=WORKERS, trees=TREES))


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds of a process that must end well, and what it said."""
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wall_s = time.perf_counter() - begun
    said = done.stdout.decode(errors="replace")
    if done.returncode:
        raise RuntimeError(f"{command[3:6]} ended with {done.returncode}: {said[-2000:]}")
    return wall_s, said


def ours(folder: Path, model: str, setting: str, env: str = "local") -> tuple[float, float, str]:
    """Seconds, peak resident MB and words of a training of ours.

    The process tells its own peak: the one that waiting for it tells begins with the memory of whoever started it.
    """
    wall_s, said = timed([sys.executable, "-P", "-c", _TRAIN, str(folder), env, model, setting])
    return wall_s, int(said.split()[-1]) / 1024.0, said


def done_grid(times: int) -> tuple[list[float], list[float]]:
    """Seconds and MB of a run whose thousand points were all trained before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_project(folder)
        setting = f"offset=1..{POINTS}"
        if not ours(folder, "sum", setting)[2].startswith(f"{POINTS} {POINTS}"):
            raise RuntimeError("the first run did not train every point")
        runs = [ours(folder, "sum", setting) for _ in range(times)]
        if not all(said.startswith(f"0 {POINTS}") for _, _, said in runs):
            raise RuntimeError("a point that was done was trained again")
        return [run[0] for run in runs], [run[1] for run in runs]


def trainings_s(count: int) -> tuple[float, float]:
    """Seconds for so many small LightGBM trainings: ours, and plain Luigi's."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as peer:
        folder = Path(name)
        make_project(folder)
        rates = ",".join(str(round(0.01 + 0.001 * at, 3)) for at in range(count))
        wall_s, _, said = ours(folder, "yes", f"learning_rate={rates}")
        if not said.startswith(f"{count} {count}"):
            raise RuntimeError(f"not every point was trained: {said}")
        script = folder / "plain.py"
        script.write_text(_LUIGI)
        plain_s, _ = timed([sys.executable, str(script), peer, str(folder / "rows.csv"), str(TREES), str(count)])
        return wall_s, plain_s


def measure(short: bool) -> list[dict[str, Any]]:
    """A thousand points that are done, in seconds and MB; 200 trainings (short: 40) beside plain Luigi's.

    Medians of 3 runs (short: 1).
    """
    times, count = (1, 40) if short else (3, 200)
    with IdleTimer() as timer:
        seconds, memory_mb = done_grid(times)
        pairs = [trainings_s(count) for _ in range(times)]
    shared = {"timer_ms": timer.worst_ms}
    return [
        {"figure": "grid-done-s", "ours": median(seconds), "unit": "s", "detail": {"runs": seconds}, **shared},
        {"figure": "grid-done-mb", "ours": median(memory_mb), "unit": "MB", "detail": {"runs": memory_mb}, **shared},
        {
            "figure": "trainings",
            "ours": median([pair[0] for pair in pairs]),
            "peer": median([pair[1] for pair in pairs]),
            "unit": "s",
            "detail": {"trainings": count, "runs": pairs},
            **shared,
        },
    ]


if __name__ == "__main__":
    print(json.dumps(measure("--short" in sys.argv), indent=1))
