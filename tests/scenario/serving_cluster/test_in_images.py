"""Serving jobs without this machine's own files: in containers of the project's image, and in chroots of the same."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.image.build import cluster_place
from rdv.settings import load_project

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("images")]
MODEL = "churn/lightgbm"


@pytest.fixture(scope="module")
def versions(shop_serving: Any) -> list[str]:
    """Two versions of the model."""
    asked = [["train", MODEL, "-P", f"num_iterations={count}", "-o", "json"] for count in (5, 8)]
    return [str(shop_serving.rdv(*one)["version"]) for one in asked]


@pytest.mark.parametrize("driver", ["docker", "exec"])
def test_a_model_is_served_released_scaled_and_removed(
    shop_serving: Any, versions: list[str], shop: Any, docker_server: Any, nobodys_tokens: None, driver: str
) -> None:
    """Under load no request is lost by releases and by other numbers of gateways; each end is clean, and total."""
    serving = shop_serving
    before = {one["ID"] for one in allocations(serving)}
    run_by(serving, driver, shop.tag)
    found = {one["check"]: one for one in serving.rdv("doctor", "--quick", "-o", "json")}["services driver"]
    assert (found["verdict"], found["found"]) == ("PASS", f"{driver} works on 1 of 1 nodes")
    serving.serve(versions[0], gateways=1)
    assert drivers(serving) == {driver}
    took: list[float] = []

    def change() -> None:
        for version in reversed(versions):
            took.append(serving.rdv("deploy", MODEL, "--version", version, "-o", "json")["waited_s"])
        for what, count in (("gateway", 2), (MODEL, 1), ("gateway", 1)):
            assert serving.rdv("scale", what, str(count), "-o", "json")["healthy"] == count

    load = serving.under_load(100, change)
    print(f"{driver}: {load.sent} sent, {load.defaults} defaults, p99 {load.quantile_ms(0.99):.0f} ms, took {took}")
    assert not load.lost
    assert dict(load.statuses) == {200: load.sent}
    assert set(load.versions) == set(versions)
    serving.rdv("apply", "--remove")
    serving.town.until(lambda: all(one["ClientStatus"] == "complete" for one in allocations(serving)))
    ran = [one for one in allocations(serving) if one["ID"] not in before]
    assert {role: ends(ran, role) for role in ("worker", "gateway", "decoy", "proxy")} == {
        "worker": ["0"] * 2, "gateway": ["0"] * 2, "decoy": ["0"], "proxy": ["0"],
    }  # fmt: skip
    assert docker_server.call("ps", "--all", "--quiet") == b""
    assert docker_server.call("network", "ls", "--format", "{{.Name}}").split() == [b"host", b"none"]
    assert not processes_in(serving.cluster.folder)


def run_by(serving: Any, driver: str, image: str) -> None:
    """Have the serving jobs run by a driver: in containers of the image, or in chroots of the same content."""
    place = serving.cluster.environments()[serving.town.env]["services"]
    if driver == "docker":
        place = cluster_place(place, image) + "&proxy_image=rdv-base:1"
    else:
        place = place.replace("driver=raw_exec", "driver=exec&python=/opt/rdv/bin/python&folder=/project")
    file = serving.town.folder / "rdv.toml"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(f'services = "{place}"' if line.startswith("services =") else line for line in lines))


def allocations(serving: Any) -> list[dict[str, Any]]:
    """Those of the project's jobs, ended ones too."""
    project = load_project(serving.town.folder, serving.town.env).config.project
    found = serving.nomad.call("GET", "/v1/allocations?namespace=dev&task_states=true").json()
    return [one for one in found if one["JobID"].startswith(f"rdv-{project}-")]


def drivers(serving: Any) -> set[str]:
    """By what the project's jobs run."""
    names = {one["JobID"] for one in allocations(serving) if one["DesiredStatus"] == "run"}
    jobs = [serving.nomad.call("GET", f"/v1/job/{name}?namespace=dev").json() for name in names]
    return {job["TaskGroups"][0]["Tasks"][0]["Driver"] for job in jobs}


def ends(ran: list[dict[str, Any]], task: str) -> list[str]:
    """The exit codes of a task, of every allocation that had it."""
    told = [event for one in ran for event in (one["TaskStates"].get(task) or {}).get("Events") or ()]
    return [event["Details"]["exit_code"] for event in told if event["Type"] == "Terminated"]


def processes_in(folder: Path) -> list[str]:
    """Live processes whose root file system is below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "root").startswith(f"{folder}/"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
