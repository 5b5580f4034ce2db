"""Canaries whose version Nomad brings into the allocation, before the worker starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select
from rdv.backends.nomad.api import parse_place
from rdv.backends.nomad.services_api import ServicesApi
from rdv.backends.nomad.services_drafts import job_id
from rdv.backends.nomad.services_files import brings
from rdv.settings import load_project

pytestmark = pytest.mark.live
MODEL = "visit/m"


def holding(folder: Path, key: bytes) -> list[Path]:
    """The files below a folder that hold some bytes: Nomad's logs and data, and its allocations."""
    found = []
    for at in folder.rglob("*"):
        try:
            if at.is_file() and key in at.read_bytes():
                found.append(at)
        except OSError:
            continue  # ended meanwhile
    return found


def test_nomad_brings_the_version_and_a_restart_does_not_fetch_again(serving: Any) -> None:
    """It is loaded from the allocation, the job holds no key, and once it is promoted a plan has nothing to change."""
    serving.train(2.0)
    serving.rdv("deploy", MODEL, "--timeout", "0")
    serving.settings(fetch="nomad")
    serving.apply()
    second = serving.train(1.5)
    ask = ["deploy", MODEL, "--canary", "1", "--share", "0.5", "--timeout", "240", "-o", "json"]
    assert (serving.rdv(*ask)["state"], serving.job("worker", MODEL).pin.version) == ("canary", second)

    project = load_project(serving.town.folder, "dev")
    namespace, options = parse_place(project.config.environments["dev"].services.removeprefix("nomad:"))
    api, name = ServicesApi(namespace, options), job_id(project.config.project, "worker", MODEL)
    job = json.dumps(api.job(name))
    key = select.secrets(project, os.environ).get("s3/secret_key")
    assert "secret.rdv_store.secret_key" in job
    assert key not in job
    assert holding(serving.cluster.folder / "nomad-services", key.encode()) == []

    def events(of: str, kind: str) -> int:
        told = api.allocation(of)["TaskStates"]["worker"]["Events"]
        return sum(one["Type"] == kind for one in told)

    def said(of: str) -> int:
        return api.errors(of, "worker", 100_000).count(b"was brought by the cluster")

    [canary] = [one.id for one in serving.job("worker", MODEL).instances if one.canary]
    assert (events(canary, "Downloading Artifacts"), said(canary)) == (1, 1)
    select.services(project).restart(name, canary, 60.0)
    serving.town.until(lambda: events(canary, "Started") == 2)
    assert (events(canary, "Downloading Artifacts"), said(canary)) == (1, 1)  # its own disk has it now

    serving.town.until(lambda: serving.rdv(*ask)["state"] == "canary")
    serving.rdv("promote", MODEL, "--timeout", "240")
    workers = [one.id for one in serving.job("worker", MODEL).instances if one.state == "running"]
    assert [said(one) for one in workers] == [1]
    serving.rdv("plan")  # its exit code says that there is nothing to change
    assert brings(api.job(name))

    serving.settings(worker_mb=520)
    serving.rdv("apply")
    assert not brings(api.job(name))
    assert serving.job("worker", MODEL).pin.version == second
