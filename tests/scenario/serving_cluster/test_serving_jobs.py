"""Gateways, workers, a decoy and a proxy as jobs of a cluster: applied, looked at, scaled, and taken away."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"
PACT = {
    "consumer": {"name": "web shop"},
    "provider": {"name": "town"},
    "interactions": [
        {
            "description": "a score",
            "request": {"method": "POST", "path": "/v1/goals/visit/score", "body": {"age": 3, "name": "x"}},
            "response": {"status": 200},
        }
    ],
}


def test_what_is_applied_answers(serving: Any) -> None:
    """A plan is carried out exactly, answers through the proxy, is then no change, and is refused a second time."""
    version = serving.train(2.0)
    serving.rdv("deploy", MODEL, "--timeout", "0")
    serving.settings(gateways=2, replicas=2)
    pact = serving.town.folder / "pact.json"
    pact.write_text(json.dumps(PACT))
    serving.rdv("contract", "publish", str(pact))
    assert "consumer 'web shop' of goal 'visit': field name" in serving.rdv("plan", code=7)
    serving.rdv("contract", "withdraw", "web shop", "--yes")
    file = serving.town.folder / "plan.json"
    assert "gateway" in json.dumps(serving.rdv("plan", "--out", str(file), "-o", "json", code=2))
    done = serving.rdv("apply", str(file), "-o", "json")
    assert {one["name"]: one["healthy"] for one in done} == {
        "gateway": 2, f"worker {MODEL}": 2, "decoy": 1, "proxy": 1,
    }  # fmt: skip
    assert serving.ask() == {"version": version, "answer": 5.0}
    serving.rdv("plan", code=0)
    assert "planned" in serving.rdv("apply", str(file), code=8)
    serving.whole()
    second = serving.train(1.0)
    released = serving.rdv("deploy", MODEL, "-o", "json")
    assert (released["version"], released["replicas"]) == (second, 2)
    assert serving.ask() == {"version": second, "answer": 4.0}


def test_a_scaled_count_stays_until_the_declared_one_changes(serving: Any) -> None:
    """`rdv scale` holds over plans, of each role by itself; another number in rdv.toml wins over it."""
    serving.settings(proxies=0)
    serving.apply()
    assert serving.rdv("scale", "gateway", "2", "-o", "json")["healthy"] == 2
    assert serving.rdv("scale", MODEL, "3", "-o", "json")["healthy"] == 3
    serving.rdv("plan", code=0)
    assert (serving.job("gateway").count, serving.job("worker", MODEL).count) == (2, 3)
    serving.settings(replicas=2)
    planned = serving.rdv("plan", "-o", "json", code=2)["services"]
    assert [one["name"] for one in planned if one["change"] == "changed"] == [f"worker {MODEL}"]
    serving.rdv("apply")
    assert serving.job("worker", MODEL).count == 2


def test_who_applies_is_in_no_job(serving: Any, tmp_path: Path) -> None:
    """Somebody else, whose token files lie elsewhere, finds nothing to change in what was applied."""
    serving.settings(proxies=0)
    serving.apply()
    theirs = serving.cluster.token_file("dev", "consul").parent
    shutil.copytree(theirs, tmp_path / "tokens")
    text = serving.town.folder.joinpath("rdv.toml").read_text()
    assert str(theirs) in text
    serving.town.mark("rdv.toml", text.replace(str(theirs), str(tmp_path / "tokens")))
    serving.rdv("plan", code=0)


def test_a_plan_says_what_no_node_can_run(serving: Any) -> None:
    """Where no node has the driver that the place names, the plan of every job and the doctor say so."""
    file = serving.town.folder / "rdv.toml"
    image = "driver=docker&image=town:1&proxy_image=nginx:1"
    before, services, after = file.read_text().partition("\nservices = ")
    file.write_text(before + services + after.replace("driver=raw_exec", image, 1))
    planned = serving.rdv("plan", "-o", "json", code=2)["services"]
    assert {one["held"][0].partition(": ")[2] for one in planned} == {"missing drivers"}
    found = {one["check"]: one for one in serving.rdv("doctor", "--quick", "-o", "json", code=1)}
    assert found["services driver"]["verdict"] == "FAIL"
