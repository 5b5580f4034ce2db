"""`rdv train --env E` from somebody's machine, its steps on real servers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select

pytestmark = pytest.mark.live
MODEL = "visit/m"
GRID = "offset=" + ",".join(f"{at}.0" for at in range(40))


@pytest.fixture
def between(
    nomad_servers: Any, consul_server: Any, s3_server: Any, hdfs_servers: Any, towns: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:  # fmt: skip
    """A town whose models lie on S3 and everything else on HDFS."""
    return towns.make_town(nomad_servers, consul_server, s3_server, tmp_path, monkeypatch, hdfs=hdfs_servers)


@pytest.mark.xdist_group("hdfs")
def test_a_grid_is_trained_once_by_two_at_once(between: Any) -> None:
    """The same 40 points asked for twice at once: each is trained once, by as many as there is memory for, 4 here.

    Models lie on S3 and everything that was made on the way on HDFS.
    """
    town = between
    command = ("train", MODEL, "-P", GRID, "--set", "train.memory_mb=[1000, 2000]", "-o", "json")
    one, other = (town.start(*command, state=state) for state in ("", "other"))
    first, second = town.ended(one), town.ended(other)
    assert town.trained() == [float(at) for at in range(40)]
    assert town.at_once() <= 4
    assert first["version"] == second["version"]
    assert first["trained"] + second["trained"] == 40
    runs = town.rdv("runs", "list", "-o", "json", state="third")
    assert sorted((one["run"], one["state"]) for one in runs) == sorted(
        [(first["run"], "done"), (second["run"], "done")]
    )
    served, rest = (kinds(town, setting) for setting in ("artifacts", "intermediate"))
    assert served == {"train": 40, "@registry": 1}
    assert {"dataset", "features", "evaluate", "validate"} <= rest.keys()
    assert not served.keys() & rest.keys()


def kinds(town: Any, setting: str) -> dict[str, int]:
    """How many artifacts of each kind lie in one of an environment's two stores."""
    keys = select.store_blobs(town.project(), setting, os.environ).keys("")
    names = [key.removesuffix("/manifest.json").split("/")[0] for key in keys if "/attempts/" not in key]
    return {name: names.count(name) for name in names}


def test_a_killed_run_is_taken_up_by_the_next(town: Any) -> None:
    """After kill -9 the steps go on, the next run joins them, and no point is trained twice; the first one is lost."""
    town.mark("hold")
    process = town.start("train", MODEL, "-P", "offset=1.0,2.0")
    town.until(lambda: len(town.trained()) == 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = town.start("train", MODEL, "-P", "offset=1.0,2.0", "-o", "json")
    town.until(lambda: len(town.rdv("runs", "list", "-o", "json")) == 2)
    town.mark("go")
    ended = town.ended(again)
    assert town.trained() == [1.0, 2.0]
    assert (ended["state"], ended["points"], ended["exit_code"]) == ("done", 2, 0)
    assert [one["state"] for one in town.rdv("runs", "list", "-o", "json", state="other")] == ["done", "lost"]


def test_a_step_out_of_memory_gets_more(town: Any) -> None:
    """A step that needs more than its class is done in the next one, and the class is remembered."""
    town.mark("mb", "300")
    assert town.rdv("train", MODEL, "-P", "offset=1.0", "-o", "json")["state"] == "done"
    assert town.trained() == [1.0, 1.0]
    assert town.rdv("train", MODEL, "-P", "offset=2.0", "-o", "json")["state"] == "done"
    assert town.trained() == [1.0, 1.0, 2.0]


def test_a_run_is_ended_from_another_machine(town: Any) -> None:
    """`rdv runs cancel` with another state folder ends a run, its steps and its command, with exit code 130."""
    town.mark("hold")
    process = town.start("train", MODEL, "-P", "offset=1.0", "-o", "json")
    town.until(town.trained)
    run = town.rdv("runs", "list", "-o", "json", state="other")[0]["run"]
    assert town.rdv("runs", "cancel", run, "-o", "json", state="other") == {"run": run, "was": "running"}
    assert "ended it" in town.ended(process, 130)["error"]
    assert town.rdv("runs", "show", run, "-o", "json", state="other")["state"] == "interrupted"
    town.until(lambda: not town.live_steps())


def test_what_another_run_waits_for_goes_on(town: Any) -> None:
    """A run that is ended leaves alone the step that another one has joined, and ends the one nobody wants."""
    town.mark("hold")
    one = town.start("train", MODEL, "-P", "offset=1.0,2.0")
    town.until(lambda: len(town.trained()) == 2)
    other = town.start("train", MODEL, "-P", "offset=1.0", "-o", "json", state="other")
    town.until(lambda: town.project_registry().list("joins/"))
    one.send_signal(signal.SIGTERM)
    town.ended(one, 130)
    town.until(lambda: len(town.live_steps()) == 1)
    town.mark("go")
    assert town.ended(other)["state"] == "done"
    assert town.trained() == [1.0, 2.0]
    assert not town.project_registry().list("joins/")
