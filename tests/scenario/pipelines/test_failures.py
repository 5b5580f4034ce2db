"""Steps that fail: what is retried, what is not, and which exit code the run ends with."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from rdv.backends import select
from rdv.backends.ports import Status
from rdv.errors import Exit, UsageError
from rdv.pipelines.runs.records import find_run, list_runs, run_events

STEPS = '''
import json, os, signal, sys, time
from pathlib import Path
from rdv.pipelines.task import TrainTask, load_features
from rdv.errors import Unreachable, Refused

def first(name):
    """Whether this is the first call, over all processes."""
    try:
        Path(name).touch(exist_ok=False)
        return True
    except FileExistsError:
        return False

class Step(TrainTask):
    defaults = {"do": "", "offset": 0.0}

    def run_step(self, inputs, output_folder, params):
        getattr(self, params["do"] or "nothing")(output_folder)
        if params["do"] != "silent":
            (output_folder / "model.json").write_text(json.dumps({"offset": params["offset"]}))
        return load_features(inputs["features"]).model_info("model.json", "sum")

    def nothing(self, folder): pass
    def raising(self, folder): raise ValueError("this cannot be trained")
    def silent(self, folder): pass
    def killed(self, folder): os.kill(os.getpid(), signal.SIGKILL)
    def killed_once(self, folder):
        if first("was_killed"): os.kill(os.getpid(), signal.SIGKILL)
    def unreachable_once(self, folder):
        if first("was_unreachable"): raise Unreachable("the store is away")
    def refusing(self, folder): raise Refused("not this one")
    def hungry(self, folder): bytearray(os.urandom(1) * (400 << 20))
    def slow(self, folder):
        Path("started").touch()
        time.sleep(60)
'''
MODEL = (
    '[models."visit/m"]\ngoal = "visit"\nflavour = "sum"\ntask = "MODULE:Step"\ndata = "data.csv"\nlabel = "days"\n'
    'exclude = ["ward", "dose", "smoker"]\n'
)


@pytest.fixture
def steps(clinic: Any) -> Any:
    """A project whose training step does as it is told."""
    return clinic.code(STEPS).write(MODEL, 'answer = "number"\ndefault = 0.0', "memory_mb = [256, 2048]\nretries = 1")


@pytest.mark.parametrize(
    ("what", "exit_code", "told"),
    [("raising", 1, "this cannot be trained"), ("silent", 1, "wrote no file"), ("refusing", 7, "not this one")],
)
def test_a_failing_step_fails_the_run(steps: Any, what: str, exit_code: int, told: str) -> None:
    """A step that raises, or writes nothing, is not retried; the run's exit code and record say why."""
    result = steps.train(f"do={what}")
    assert (result.exit, result.record.exit_code) == (exit_code, exit_code)
    assert told in result.record.error
    assert "rdv logs" in result.record.error
    assert steps.kinds("again") == []
    assert steps.manifests("train") == {}
    assert steps.versions() == []


def test_a_task_that_fails_in_the_pipeline_leaves_a_record(steps: Any) -> None:
    """A project's task that raises outside its step, or does not import, fails the run or is a usage error."""
    steps.code(STEPS + "\n    def parameters(self):\n        raise RuntimeError('no parameters')\n")
    result = steps.train()
    assert result.exit is Exit.FAILED
    assert "no parameters" in result.record.error
    log = (steps.project().state / "runs" / result.record.run / "log").read_text()
    assert "Traceback" in log
    steps.code("import nowhere_to_be_found\n", f"{steps.module}_broken")
    (steps.folder / "rdv.toml").write_text(
        (steps.folder / "rdv.toml").read_text().replace(f"{steps.module}:", f"{steps.module}_broken:")
    )
    with pytest.raises(UsageError, match="nowhere_to_be_found"):
        steps.train()


def test_one_failing_point_fails_the_run_and_keeps_the_others(steps: Any) -> None:
    """The other points of a grid are trained and kept, but nothing is chosen while one is missing."""
    result = steps.train("do=nothing,raising")
    assert result.exit is Exit.FAILED
    assert len(steps.manifests("train")) == 1
    assert steps.versions() == []


@pytest.mark.parametrize("what", ["killed_once", "unreachable_once"])
def test_a_passing_failure_is_retried(steps: Any, what: str) -> None:
    """A step that was killed, or could not reach something, is tried again in the same run."""
    result = steps.train(f"do={what}")
    assert result.exit is Exit.OK, result.record
    assert steps.kinds("again") == ["train"]


def test_retries_come_to_an_end(steps: Any) -> None:
    """A step that is killed every time fails after the retries that are allowed."""
    result = steps.train("do=killed")
    assert result.exit is Exit.FAILED
    assert "SIGKILL" in result.record.error
    assert steps.kinds("dispatched").count("train") == 2


def test_out_of_memory_is_retried_one_class_up_and_remembered(steps: Any) -> None:
    """A step that passes its memory limit runs again in the next class, and begins there the next time."""
    result = steps.train("do=hungry")
    assert result.exit is Exit.OK, result.record
    assert [(e.task, "out_of_memory" in e.text, "2048 MB" in e.text) for e in steps.events if e.kind == "again"] == [
        ("train", True, True)
    ]
    again = steps.train("do=hungry", date="2024-01-01")
    assert again.exit is Exit.OK, again.record
    assert steps.kinds("again") == []


def test_out_of_memory_in_the_largest_class_fails(clinic: Any) -> None:
    """Where no class is left the run says so, and which setting to change."""
    clinic.code(STEPS).write(MODEL, 'answer = "number"\ndefault = 0.0', "memory_mb = [256]")
    result = clinic.train("do=hungry")
    assert result.exit is Exit.FAILED
    assert "train.memory_mb" in result.record.error


def test_a_step_that_takes_too_long_is_ended(clinic: Any) -> None:
    """The wall-clock limit ends a step and the run with exit code 6."""
    clinic.code(STEPS).write(MODEL, 'answer = "number"\ndefault = 0.0', "wall_s = 3.0")
    result = clinic.train("do=slow")
    assert result.exit is Exit.TIMED_OUT
    assert "train.wall_s" in result.record.error


def wait_for(path: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)


def test_an_interrupt_ends_the_steps_and_then_the_run(steps: Any) -> None:
    """SIGTERM ends what runs, leaves exit code 130 and a record that says so, and a rerun goes on from there."""
    process = steps.start("do=slow")
    wait_for(steps.folder / "started")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == Exit.INTERRUPTED
    (record,) = list_runs(steps.project().state)
    assert (record.state, record.exit_code) == ("interrupted", 130)
    outcomes = select.cluster(steps.project(), 1).steps(record.run)
    assert all(outcome.status.ended for outcome in outcomes.values())
    assert Status.CANCELLED in {outcome.status for outcome in outcomes.values()}
    assert set(steps.manifests()) - set(steps.manifests("config")) == {
        *steps.manifests("dataset"),
        *steps.manifests("features"),
    }


def test_a_killed_run_shows_as_lost(steps: Any) -> None:
    """After kill -9 no step is left running, and the record that says "running" is read as lost."""
    process = steps.start("do=slow")
    wait_for(steps.folder / "started")
    process.kill()
    process.wait(60)
    (record,) = list_runs(steps.project().state)
    assert record.state == "lost"
    assert find_run(steps.project().state, record.run).state == "lost"
    assert [event.kind for event in run_events(steps.project().state, record.run)][-1] == "dispatched"
    cluster = select.cluster(steps.project(), 1)
    for step in cluster.steps(record.run):
        assert cluster.wait(step, 30).status.ended
    cluster.close()


def test_nothing_is_left_of_what_was_killed(steps: Any) -> None:
    """The scratch folder of a killed step is removed by the next run."""
    steps.train("do=killed")
    scratch = steps.project().state / "tmp"
    assert any(scratch.iterdir())
    steps.train()
    assert list(scratch.iterdir()) == []
    assert os.listdir(steps.project().state / "runs")
