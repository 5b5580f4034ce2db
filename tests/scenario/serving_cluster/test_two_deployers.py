"""Two people who try out different versions of a model at the same moment, on Nomad."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest

from rdv.backends import select
from rdv.backends.nomad.api import parse_place
from rdv.backends.nomad.services_api import ServicesApi
from rdv.backends.nomad.services_drafts import job_id
from rdv.settings import load_project

pytestmark = pytest.mark.live
MODEL = "visit/m"


def test_of_two_deployers_one_wins_and_the_other_has_started_nothing(serving: Any) -> None:
    """The row is taken by one; the other ends with 8, and the job has had one change, with the winner's pin.

    Then both promote it at the same moment, and neither is refused what has happened.
    """
    serving.train(2.0)
    serving.rdv("deploy", MODEL, "--timeout", "0")
    serving.apply()
    project = load_project(serving.town.folder, "dev")
    namespace, options = parse_place(project.config.environments["dev"].services.removeprefix("nomad:"))
    api, name = ServicesApi(namespace, options), job_id(project.config.project, "worker", MODEL)
    before = int(api.job(name)["Version"])
    versions = [serving.train(offset) for offset in (1.5, 1.0)]

    other = copy.copy(serving.town)
    other.folder = serving.town.folder.with_name("other")
    shutil.copytree(serving.town.folder, other.folder, ignore=shutil.ignore_patterns(".rdv"))
    ask = ["deploy", MODEL, "--canary", "1", "--timeout", "110", "-o", "json", "--version"]
    both = [town.start(*ask, version) for town, version in zip((serving.town, other), versions, strict=True)]
    told = [one.communicate(timeout=300) for one in both]
    codes = [one.returncode for one in both]
    assert sorted(codes) == [0, 8], told
    won = codes.index(0)
    assert versions[won] in told[1 - won][1]  # whom it lost to

    [row] = serving.rdv("rollouts", MODEL, "-o", "json")
    assert (row["version"], row["state"]) == (versions[won], "canary")
    job = api.job(name)
    assert (int(job["Version"]), job["Meta"]["rdv_pin"]) == (before + 1, f"2:{versions[won]}")
    assert [one.canary for one in select.services(project).look()[1].instances if one.canary] == [True]

    # the only canary is all that Nomad waits for, so a second promotion finds a deployment that has ended
    both = [town.start("promote", MODEL, "--timeout", "110") for town in (serving.town, other)]
    told = [one.communicate(timeout=300) for one in both]
    codes = [one.returncode for one in both]
    assert 0 in codes, told
    assert set(codes) <= {0, 3}, told  # 3: the rollout was over before the second one looked
    assert serving.rdv("rollouts", MODEL, "-o", "json")[0]["state"] == "promoted"
