"""Dry runs: a plan says what is done, what would run and why, and what is missing; it writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rdv.pipelines.plan import PlanNode, nodes, plan
from rdv.pipelines.runs.runner import TrainRequest, count_points


def planned(project: Any, *settings: str, **request: Any) -> PlanNode:
    return plan(
        project.project(), TrainRequest(model="visit/m", settings=settings, **{"date": "2024-11-22", **request})
    )


def standing(root: PlanNode) -> dict[str, list[str]]:
    """Standings of the plan's nodes by task."""
    found: dict[str, list[str]] = {}
    for node in nodes(root):
        found.setdefault(node.task, []).append(node.standing)
    return found


def why(root: PlanNode, task: str) -> list[str]:
    """All reasons of a task's nodes."""
    return [reason for node in nodes(root) if node.task == task for reason in node.why]


def test_before_the_first_run_everything_would_run(sums: Any) -> None:
    """Nothing is there: every step would run, each says what it waits for, and the plan leaves no trace."""
    before = sorted(path for path in sums.folder.rglob("*") if "__pycache__" not in path.parts)
    root = planned(sums, "offset=1,2")
    assert standing(root) == {
        "publish": ["would run"], "validate": ["would run"], "evaluate": ["would run"], "train": ["would run"] * 2,
        "features": ["would run"], "dataset": ["would run"],
    }  # fmt: skip
    assert "features is not there yet" in why(root, "train")
    assert why(root, "dataset") == ["it was never made"]
    after = sorted(path for path in sums.folder.rglob("*") if "__pycache__" not in path.parts)
    assert [path for path in after if ".rdv" not in path.parts] == before
    assert not any(path for path in after if path.name == "manifest.json" or "runs" in path.parts)


def test_after_a_run_everything_is_done(sums: Any) -> None:
    """The same request has nothing left to do; a wider one would run the new point and what depends on the choice."""
    sums.train("offset=1,2")
    assert set(sum(standing(planned(sums, "offset=1,2")).values(), [])) == {"done"}
    wider = planned(sums, "offset=1,2,3")
    assert sorted(standing(wider)["train"]) == ["done", "done", "would run"]
    (new,) = [node for node in nodes(wider) if node.task == "train" and node.standing == "would run"]
    assert new.point == "offset=3.0"
    assert new.why[0].startswith("offset was ")
    assert new.why[0].endswith(", is 3.0")
    assert new.artifact.startswith("train/visit/m/")


def test_the_part_of_the_name_that_changed_is_told(sums: Any, sum_task: str) -> None:
    """Changed data, code, settings and dates are told as what they are."""
    sums.train("offset=1")
    sums.data(seed=5)
    assert [reason[:10] for reason in why(planned(sums, "offset=1"), "dataset")] == ["input data"]
    sums.data()
    sums.code(sum_task + "\nX = 1\n")
    assert why(planned(sums, "offset=1"), "train") == ["the code changed"]
    sums.code(sum_task)
    sums.set("seed = 3")
    assert why(planned(sums, "offset=1"), "train") == ["seed was 0, is 3"]
    (reason,) = why(planned(sums, "offset=1", date="2024-01-01"), "dataset")
    assert reason.startswith("period was day.")
    assert reason.endswith(", is day.2024-01-01")


def test_a_missing_input_is_told(sums: Any) -> None:
    """Without its file the data set is a missing input, and the plan still shows the rest."""
    (Path(sums.folder) / "data.csv").unlink()
    root = planned(sums)
    assert standing(root)["dataset"] == ["missing input"]
    assert "data.csv" in why(root, "dataset")[0]


def test_a_forced_plan_says_so(sums: Any) -> None:
    """With force every step would run again, because it is forced."""
    sums.train("offset=1")
    root = planned(sums, "offset=1", force=True)
    assert standing(root)["train"] == ["would run"]
    assert "it is forced" in why(root, "dataset")


def test_points_are_counted_before_anything(sums: Any) -> None:
    """The number of points of a request is known without data, artifacts or a store."""
    (Path(sums.folder) / "data.csv").unlink()
    assert count_points(sums.project(), TrainRequest(model="visit/m", settings=("offset=1..5000",))) == 5000
    drawn = TrainRequest(model="visit/m", settings=("offset=0.0..1.0",), trials=7, seed=1)
    assert count_points(sums.project(), drawn) == 7
