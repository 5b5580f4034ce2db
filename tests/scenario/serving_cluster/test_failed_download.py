"""Canaries whose file Nomad cannot download: for a moment, which is survived, and for good, which is told."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rdv.backends import select
from rdv.backends.nomad.api import parse_place
from rdv.backends.nomad.services_api import ServicesApi
from rdv.backends.nomad.services_drafts import job_id
from rdv.records import Version, decode, version_key
from rdv.settings import load_project

pytestmark = pytest.mark.live
MODEL = "visit/m"
FAILED = "Failed Artifact Download"
# the store is asked for the version before its canaries are begun, so this is where it has to go away
HELD = """
import sys, time
from pathlib import Path
from rdv.backends.nomad.services_api import ServicesApi
begin = ServicesApi.begin
def held(self, job, index):
    Path("held").touch()
    while not Path("go").exists():
        time.sleep(0.02)
    return begin(self, job, index)
ServicesApi.begin = held
from rdv.cli.main import main
sys.exit(main())
"""


def held(serving: Any, version: str) -> subprocess.Popen[str]:
    """A canary that is about to be registered."""
    words = ["deploy", MODEL, "--canary", "1", "--share", "0.5", "--version", version, "--timeout", "240"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HELD, *words, "--env", "dev", "-o", "json"],
        cwd=serving.town.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    serving.town.until(serving.town.folder.joinpath("held").exists)
    return process


def brought(serving: Any) -> str:
    """One worker of a first version, its file brought by Nomad from then on; the name of a second version."""
    serving.train(2.0)
    serving.rdv("deploy", MODEL, "--timeout", "0")
    serving.settings(fetch="nomad")
    serving.apply()
    return str(serving.train(1.5))


def failures(serving: Any) -> int:
    """How often the canary's download has failed, as far as Nomad remembers."""
    project = load_project(serving.town.folder, "dev")
    namespace, options = parse_place(project.config.environments["dev"].services.removeprefix("nomad:"))
    made = ServicesApi(namespace, options).allocations(job_id(project.config.project, "worker", MODEL))[1]
    states = [one["TaskStates"]["worker"] for one in made if one["TaskStates"]]
    return sum(event["Type"] == FAILED for state in states for event in state["Events"])


def test_a_store_that_is_away_for_a_moment_ends_no_rollout(own_serving: Any) -> None:
    """The S3 server is stopped before the download and started after two have failed: the canary comes all the same."""
    serving = own_serving
    second, s3 = brought(serving), serving.cluster.servers.s3
    process = held(serving, second)
    s3.process.stop()
    serving.town.mark("go")
    serving.town.until(lambda: failures(serving) >= 2)
    s3.start()
    told = serving.town.ended(process)
    assert (told["state"], told["version"]) == ("canary", second)
    assert serving.rdv("rollback", MODEL, "-o", "json")["state"] == "rolled_back"


def test_a_download_that_fails_for_good_is_what_is_told(serving: Any) -> None:
    """Exit code 7, the file, the artifact and what to type; the job is as before, and the same command begins anew."""
    second = brought(serving)
    project = load_project(serving.town.folder, "dev")
    entry = select.registry(project).get(version_key(MODEL, second))
    assert entry is not None
    artifact = decode(Version, entry.value, "").artifact
    manifest = select.artifacts(project).manifest(artifact)
    assert manifest is not None
    assert manifest.model is not None
    name = f"{artifact}/attempts/{manifest.attempt}/{manifest.model.file}"
    process = held(serving, second)
    blobs = select.blobs(project)
    kept = blobs.fetch(name, serving.town.folder / "kept")
    blobs.delete(name)
    serving.town.mark("go")
    said = serving.town.ended(process, 7)
    assert f"{name}: " in said
    assert "Nomad could not download http://" in said
    assert "404" in said
    assert f"`rdv artifacts verify {artifact} --env dev`" in said
    assert artifact in serving.rdv("artifacts", "verify", artifact, code=1)
    [row] = serving.rdv("rollouts", MODEL, "-o", "json")
    assert (row["state"], "Nomad could not download" in row["reason"]) == ("rolled_back", True)
    assert serving.job("worker", MODEL).pin is None
    blobs.put(name, kept)
    again = serving.rdv("deploy", MODEL, "--canary", "1", "--version", second, "--timeout", "240", "-o", "json")
    assert again["state"] == "canary"
