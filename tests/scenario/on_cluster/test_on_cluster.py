"""`rdv train --on-cluster`: the pipeline itself as a job of the cluster."""

from __future__ import annotations

import base64
import json
import os
import signal
import zlib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"


def test_a_pipeline_runs_as_a_job(town: Any, tmp_path: Path) -> None:
    """It dispatches by its own identity; log, record and exit code are those of any run; nothing shows a credential."""
    ended = town.rdv("train", MODEL, "-P", "offset=1.0,2.0", "--on-cluster", "-o", "json")
    assert (ended["state"], ended["trained"], ended["exit_code"]) == ("done", 2, 0)
    assert town.trained() == [1.0, 2.0]
    log = town.rdv("logs", ended["run"], state="other")
    assert "planned (0 of 2)" in log
    assert "ended: done" in log
    shown = town.rdv("runs", "show", ended["run"], "-o", "json", state="other")
    assert (shown["state"], shown["version"]) == ("done", ended["version"])
    assert not (town.folder / ".rdv" / "dev" / "runs").exists()
    assert not [secret for secret in credentials(tmp_path) for text in told(town, ended["run"]) if secret in text]
    settings = (town.folder / "rdv.toml").read_text()
    town.mark("rdv.toml", settings.replace('metric = "rmse"', 'metric = "rmse"\nfloor = 0.1'))
    refused = town.rdv("train", MODEL, "-P", "offset=50.0", "--on-cluster", "-o", "json", code=7)
    assert refused["reasons"]


def test_a_killed_pipeline_is_started_again(town: Any) -> None:
    """After kill -9 its job starts it again: it joins its own steps, trains nothing twice and ends well."""
    town.mark("hold")
    run = town.rdv("train", MODEL, "-P", "offset=1.0,2.0", "--on-cluster", "--detach", "-o", "json")["run"]
    town.until(lambda: len(town.trained()) == 2)
    os.kill(town.pipeline(run), signal.SIGKILL)
    town.until(lambda: town.record(run).starts == 2)
    town.mark("go")
    ended = town.rdv("runs", "wait", run, "-o", "json")
    assert (ended["state"], ended["starts"], ended["exit_code"]) == ("done", 2, 0)
    assert town.trained() == [1.0, 2.0]


def test_a_cancelled_pipeline_ends_its_steps(town: Any) -> None:
    """Cancelled, a pipeline ends what it dispatched and says so; it is not started again."""
    town.mark("hold")
    run = town.rdv("train", MODEL, "-P", "offset=1.0", "--on-cluster", "--detach", "-o", "json")["run"]
    town.until(town.trained)
    assert town.rdv("runs", "cancel", run[:-1], "-o", "json")["run"] == run
    ended = town.rdv("runs", "wait", run, "-o", "json", code=130)
    assert (ended["state"], ended["starts"]) == ("interrupted", 1)
    town.until(lambda: not town.live_steps())
    assert town.trained() == [1.0]


def test_a_pipeline_that_is_gone_is_lost(town: Any) -> None:
    """A pipeline that died with its job and had no last word is lost, as whoever sees it first writes down."""
    town.mark("hold")
    run = town.rdv("train", MODEL, "-P", "offset=1.0", "--on-cluster", "--detach", "-o", "json")["run"]
    town.until(town.trained)
    pid, job = town.pipeline(run), town.record(run).job
    assert town.servers.call("DELETE", f"/v1/job/{job}?purge=true&namespace={town.namespace}-pipelines").ok
    os.kill(pid, signal.SIGKILL)
    assert town.rdv("runs", "list", "-o", "json")[0]["state"] == "lost"
    assert town.record(run).state == "lost"
    assert town.live_steps()
    town.rdv("runs", "cancel", run, "-o", "json")
    town.until(lambda: not town.live_steps())


def credentials(folder: Path) -> list[bytes]:
    """What nobody may see."""
    kept = [(folder / name).read_text() for name in ("nomad.token", "consul.token")]
    kept += [line.split('"')[3] for line in (folder / "secrets.toml").read_text().splitlines()]
    return [one.encode() for one in kept]


def told(town: Any, run: str) -> list[bytes]:
    """The job of a run with its payload, its log, and everything in the registry."""
    job = town.servers.call("GET", f"/v1/job/{town.record(run).job}?namespace={town.namespace}-pipelines").body
    payload = zlib.decompress(base64.b64decode(json.loads(job)["Payload"]))
    values = [entry.value for entry in town.project_registry().list("").values()]
    return [job, payload, town.rdv("logs", run).encode(), *values]
