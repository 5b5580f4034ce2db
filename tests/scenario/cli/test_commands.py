"""The commands on a real project: what they print, how they end, and that a program can read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.errors import Exit

MODEL = "churn/lightgbm"


def test_a_project_from_first_to_last_version(shop: Any) -> None:
    """Versions, their difference, runs, logs and artifacts of two trainings are all there, as JSON."""
    rdv, (first, second) = shop.rdv, shop.versions
    assert [one["version"] for one in rdv.json("models", "list", MODEL)] == [second, first]
    assert rdv.json("models", "show", MODEL)["version"] == second
    changed = {one["name"]: (one["from"], one["to"]) for one in rdv.json("models", "diff", MODEL, first, "newest")}
    assert changed["num_leaves"] == ("3", "4")
    runs = rdv.json("runs", "list")
    assert [(one["model"], one["state"], one["version"]) for one in runs] == [
        (MODEL, "done", second),
        (MODEL, "done", first),
    ]
    shown = rdv.json("runs", "show", runs[0]["run"])
    assert {one["status"] for one in shown["steps"]} == {"succeeded"}
    assert "published" in rdv("logs", runs[0]["run"]).stdout
    assert rdv("logs", "-f", shown["steps"][0]["step"]).returncode == 0
    assert rdv.json("runs", "wait", runs[0]["run"])["version"] == second
    kinds = [one["kind"] for one in rdv.json("artifacts", "list")]
    assert kinds.count("train") == 2
    assert rdv.json("artifacts", "verify") == []


def test_what_is_done_is_planned_as_done(shop: Any) -> None:
    """A dry run tells what is done, what would run, and which part of its name changed; and makes nothing."""
    plan = shop.rdv.json("train", MODEL, "-P", "num_iterations=20", "-P", "num_leaves=4,5", "--dry-run")
    nodes, todo = [], [plan]
    while todo:
        node = todo.pop()
        nodes.append(node)
        todo += node["needs"]
    trains = {node["point"]: node for node in nodes if node["task"] == "train"}
    assert [node["standing"] for point, node in sorted(trains.items())] == ["done", "would run"]
    assert "num_leaves" in "".join(why for node in trains.values() for why in node["why"])
    assert len(shop.rdv.json("runs", "list")) == 2


def test_garbage_is_shown_first_and_deleted_with_yes(shop: Any) -> None:
    """Collection keeps current and previous versions with what made them, names the rest, and asks for --yes."""
    rdv, (first, second) = shop.rdv, shop.versions
    rdv("deploy", MODEL, "--version", second)
    found = rdv.json("artifacts", "gc", "--older-than", "0")
    doomed = {one["artifact"] for one in found}
    every = {one["artifact"]: one for one in rdv.json("artifacts", "list")}
    assert {every[name]["version"] for name in doomed} & {first, second} == {first}
    assert "features" not in {every[name]["kind"] for name in doomed}
    assert doomed < every.keys()
    assert rdv.json("artifacts", "gc", "--older-than", "1") == []
    rdv.json("artifacts", "gc", "--older-than", "0", "--yes")
    assert {one["artifact"] for one in rdv.json("artifacts", "list")} == every.keys() - doomed
    assert [one["version"] for one in rdv.json("models", "list", MODEL)] == [second]
    assert rdv("deploy", MODEL, "--version", first).returncode == Exit.USAGE


def test_a_damaged_artifact_is_named_and_not_deployed(shop: Any) -> None:
    """One changed byte in a model file is found by verify, and stops a deploy before the pointer moves."""
    file = next(path for path in shop.folder.joinpath(".rdv", "artifacts").rglob("model*") if path.is_file())
    file.chmod(0o644)
    file.write_bytes(b"x" + file.read_bytes()[1:])
    verified = shop.rdv("artifacts", "verify", "-o", "json")
    assert verified.returncode == Exit.FAILED
    assert [one["artifact"] for one in json.loads(verified.stdout)] == [
        file.as_posix().split("/artifacts/")[1].split("/attempts/")[0]
    ]
    codes = {shop.rdv("deploy", MODEL, "--version", version).returncode for version in shop.versions}
    assert codes == {Exit.OK, Exit.FAILED}


def test_a_model_that_is_not_good_enough_is_refused(new_project: Any) -> None:
    """A version below its floor ends the training with 7 and the reason, and is not published."""
    ended = new_project(
        "train", MODEL, "-P", "num_iterations=2", "--set", f'models."{MODEL}".floor=0.999', "-o", "json"
    )
    assert ended.returncode == Exit.REFUSED
    assert "floor" in ended.stderr.splitlines()[-1]
    assert json.loads(ended.stdout)["state"] == "refused"
    assert new_project.json("models", "list", MODEL) == []


def test_a_detached_run_goes_on_by_itself(new_project: Any) -> None:
    """--detach returns at once with the run's id and how to come back to it; wait ends with the run's own code."""
    begun = new_project("train", MODEL, "-P", "num_iterations=3", "--detach", "-o", "json")
    assert begun.returncode == 0
    run = json.loads(begun.stdout)["run"]
    assert f"rdv runs wait {run}" in begun.stderr
    assert new_project("logs", "-f", run).stdout.rstrip().endswith("ended: done")
    assert new_project.json("runs", "wait", run)["state"] == "done"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("train", "churn/lightgbn"), Exit.USAGE),
        (("train", MODEL, "-P", "num_leafs=3"), Exit.USAGE),
        (("train", MODEL, "-P", "learning_rate=0.1..0.2"), Exit.USAGE),
        (("train", MODEL, "-P", "num_leaves=2..2000"), Exit.USAGE),
        (("deploy", "churn/lightgbn"), Exit.USAGE),
        (("deploy", MODEL), Exit.USAGE),
        (("rollback", MODEL), Exit.USAGE),
        (("status",), Exit.UNREACHABLE),
        (("replay", MODEL), Exit.USAGE),
        (("runs", "show", "nonsense"), Exit.USAGE),
        (("logs", "nonsense"), Exit.USAGE),
        (("report", "vist"), Exit.USAGE),
        (("config", "show", "--set", "serve.prot=1"), Exit.USAGE),
        (("schedule", MODEL, "--cron", "61 * * * *"), Exit.USAGE),
        (("schedule", MODEL, "--cron", "0 * * * *", "-P", "num_leafs=3"), Exit.USAGE),
        (("schedule", MODEL, "--cron", "0 * * * *", "--dry-run"), Exit.USAGE),
        (("schedule", "pause", MODEL), Exit.USAGE),
        (("serve", "worker"), Exit.USAGE),
        (("serve", "decoy", MODEL), Exit.USAGE),
        (("score", MODEL, "--input", "data/churn.csv"), Exit.USAGE),
    ],
)
def test_what_cannot_be_done_is_one_line_and_its_code(new_project: Any, arguments: tuple[str, ...], code: Exit) -> None:
    """Each mistake ends with the exit code that the table gives it and one line on stderr, and prints no data."""
    ended = new_project(*arguments)
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("rdv: ")


def test_problems_of_a_project_are_listed(new_project: Any) -> None:
    """`rdv config check` prints every problem as data and ends with 3."""
    file = new_project.folder / "rdv.toml"
    file.write_text(
        file.read_text().replace("until_ms = 60", "until_ms = 600").replace('goal = "churn"\n', 'goal = "chrun"\n')
    )
    ended = new_project("config", "check", "-o", "json")
    assert ended.returncode == Exit.USAGE
    assert len(json.loads(ended.stdout)) >= 2


def test_settings_tell_their_origin(new_project: Any) -> None:
    """Flag, environment, file and default are told apart, in this order of precedence."""
    new_project.environment["RDV_SERVE_DRAIN_S"] = "3"
    found = new_project.json("config", "show", "--origin", "--set", "serve.port=8123", "serve", "goals.churn.budget_ms")
    origins = {one["key"]: (one["value"], one["origin"]) for one in found}
    assert origins["serve.port"][0] == 8123
    assert "flag" in origins["serve.port"][1]
    assert "RDV_SERVE_DRAIN_S" in origins["serve.drain_s"][1]
    assert "rdv.toml" in origins["goals.churn.budget_ms"][1]
    assert origins["serve.host"] == ("127.0.0.1", "default")


def test_schedules_are_made_shown_and_forgotten(new_project: Any) -> None:
    """A schedule shows its next moments, can be paused and resumed, and is removed only when that is meant."""
    made = new_project.json("schedule", MODEL, "--cron", "0 */3 * * *", "-P", "num_leaves=3")
    assert made["arguments"] == "-P num_leaves=3"
    assert new_project.json("schedule", "pause", MODEL)["state"] == "paused"
    assert new_project.json("schedule", "list")[0]["next"] == []
    assert len(new_project.json("schedule", "resume", MODEL)["next"]) == 3
    assert new_project.json("schedule", "history", MODEL) == []
    assert new_project("schedule", "remove", MODEL).returncode == Exit.USAGE
    assert new_project("schedule", "remove", MODEL, "--yes").returncode == Exit.OK
    assert new_project.json("schedule", "list") == []


def test_a_scheduled_training_runs_now(new_project: Any) -> None:
    """`rdv schedule run` trains with the schedule's options and notes what came of it."""
    new_project("schedule", MODEL, "--cron", "0 0 1 1 *", "-P", "num_iterations=3")
    assert new_project("schedule", "run", MODEL).returncode == Exit.OK
    history = new_project.json("schedule", "history", MODEL)
    assert [(one["status"], one["exit_code"]) for one in history] == [("succeeded", 0)]
    assert len(new_project.json("models", "list", MODEL)) == 1


def test_commands_work_from_below_and_from_outside(new_project: Any, typed: Callable[[Path], Any]) -> None:
    """A project is found from any folder in it, and by --project from anywhere."""
    inside, outside = typed(new_project.folder / "data"), typed(new_project.folder.parent)
    assert inside("config", "check").returncode == Exit.OK
    assert outside("config", "check").returncode == Exit.USAGE
    assert outside("config", "check", "--project", "shop").returncode == Exit.OK
