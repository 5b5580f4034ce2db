"""`rdv schedule` on a cluster: its clock begins trainings, which do not overlap, are tried again, and publish."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rdv.cron import Cron

pytestmark = pytest.mark.live
MODEL = "visit/m"
CRONS = ("*/7 * * * *", "0 */3 * * *", "30 4 * * mon-fri", "0 0 13 * fri", "5/20 6 1 jan,jul *", "0 12 * * 5-7")


def test_the_clock_begins_trainings(town: Any) -> None:
    """A schedule fires; its first try fails and is made again; it publishes; beside it nothing can be begun by hand."""
    town.rdv("schedule", MODEL, "--cron", "* * * * *", "-P", "offset=1.0", "-o", "json")
    town.mark("hold")
    town.mark("fail")
    town.until(lambda: len(town.trained()) == 2)  # the try that failed, and the one after it
    [running] = town.rdv("schedule", "list", "-o", "json")
    assert running["state"] == "running"
    assert "runs already" in town.rdv("schedule", "run", MODEL, code=8)
    town.rdv("schedule", "pause", MODEL)
    town.mark("go")
    [entry] = town.until(lambda: [one for one in history(town) if one["status"] != "running"])
    assert (entry["status"], entry["exit_code"]) == ("succeeded", 0)
    assert entry["due"].endswith(":00Z")
    record = town.record(entry["run"])
    assert (record.state, record.starts) == ("done", 2)
    assert list(town.project_registry().list(f"models/{MODEL}/versions/"))
    assert "ended: done" in town.rdv("logs", entry["run"], state="other")
    town.rdv("schedule", "remove", MODEL, "--yes")
    assert town.rdv("schedule", "list", "-o", "json") == []


def test_what_a_schedule_trains_is_served(town: Any) -> None:
    """The clock begins a training that lasts beyond its next moment: nothing begins beside it. What it published is

    deployed, and a worker that runs on this machine takes it up through Consul; the moment it lasted over was skipped.
    """
    settings = town.folder.joinpath("rdv.toml").read_text()
    town.mark("rdv.toml", settings.replace('metric = "rmse"', 'metric = "rmse"\npublish = "deploy"'))
    first = town.rdv("train", MODEL, "-P", "offset=2.0", "-o", "json")["version"]
    serving = town.start("up")
    try:
        [gateway] = town.rdv("status", "--wait", "60", "-o", "json")["gateways"]
        assert town.ask(gateway["url"]) == {"version": first, "answer": 5.0}
        town.mark("hold")
        town.rdv("schedule", MODEL, "--cron", "* * * * *", "-P", "offset=1.0", "-o", "json")
        town.until(lambda: len(town.trained()) == 2)
        begun = datetime.now(UTC)
        over = begun.replace(second=0, microsecond=0) + timedelta(minutes=1, seconds=5)
        town.until(lambda: datetime.now(UTC) > over)
        assert town.trained() == [1.0, 2.0]
        assert [one["status"] for one in history(town)] == ["running"]
        town.mark("go")
        town.until(lambda: town.ask(gateway["url"])["version"] != first)
        assert town.ask(gateway["url"])["answer"] == 4.0
        town.until(lambda: "skipped" in [one["status"] for one in history(town)])
        assert {one["status"] for one in history(town)} <= {"succeeded", "skipped", "running"}
        assert town.trained() == [1.0, 2.0]
    finally:
        town.rdv("schedule", "remove", MODEL, "--yes")
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=60)


def test_both_clocks_say_the_same(town: Any) -> None:
    """The next moment that `rdv schedule list` tells is the one at which Nomad itself says that it will begin."""
    from rdv.backends.devcluster.programs import find_program
    from rdv.cli.scheduling import schedules

    kept = schedules(town.project())
    nomad = str(find_program("nomad", dict(os.environ)))
    environment = {"NOMAD_ADDR": town.servers.address, "NOMAD_TOKEN": town.servers.token, "TZ": "UTC", "HOME": "/"}
    for cron in CRONS:
        kept.put(MODEL, cron, ("-P", "offset=1.0"))
        [job] = [one["ID"] for one in town.servers.call("GET", f"/v1/jobs?namespace={town.namespace}-pipelines").json()]
        told = subprocess.run(
            [nomad, "job", "status", f"-namespace={town.namespace}-pipelines", job],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        found = re.search(r"Next Periodic Launch *= (\S+)", told)
        assert found, told
        assert datetime.fromisoformat(found[1]) == Cron.parse(cron).next(datetime.now(UTC)), cron


def history(town: Any) -> Any:
    """What a schedule remembers."""
    return town.rdv("schedule", "history", MODEL, "-o", "json")
