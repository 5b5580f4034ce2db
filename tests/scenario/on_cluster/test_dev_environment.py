"""An environment of a whole dev cluster, as a person gets it: identities, rights and secrets as in production."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"
ENV = "staging"


@pytest.fixture
def person(dev_cluster: Any, towns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A person's project in an environment, and the tokens of that person in a folder that can go away."""
    for name in ("NOMAD_TOKEN", "CONSUL_HTTP_TOKEN", "VAULT_TOKEN", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    tokens = tmp_path / "tokens"
    shutil.copytree(dev_cluster.token_file(ENV, "consul").parent, tokens)
    theirs = str(dev_cluster.token_file(ENV, "consul").parent)
    places = {port: place.replace(theirs, str(tokens)) for port, place in dev_cluster.environments()[ENV].items()}
    project = tmp_path / "project"
    project.mkdir()
    return towns.Town(project, places, dev_cluster.servers.nomads["batch"], ENV)


def test_a_pipeline_needs_nobodys_tokens(person: Any, tmp_path: Path) -> None:
    """From its start on a pipeline and its steps use their own identities: it ends well without the person's tokens."""
    person.mark("hold")
    run = person.rdv("train", MODEL, "-P", "offset=1.0", "--on-cluster", "--detach", "-o", "json")["run"]
    person.until(person.trained)
    (tmp_path / "tokens").rename(tmp_path / "away")
    person.mark("go")
    person.until(lambda: (person.folder / "trained").exists() and not steps(person))
    (tmp_path / "away").rename(tmp_path / "tokens")
    ended = person.rdv("runs", "wait", run, "-o", "json")
    assert (ended["state"], ended["trained"]) == ("done", 1)
    assert person.rdv("train", MODEL, "-P", "offset=1.0", "-o", "json")["trained"] == 0
    person.rdv("schedule", MODEL, "--cron", "0 0 1 1 *", "-P", "offset=1.0", "-o", "json")
    person.rdv("schedule", "run", MODEL)
    [entry] = person.rdv("schedule", "history", MODEL, "-o", "json")
    assert (entry["status"], entry["exit_code"]) == ("succeeded", 0)
    person.rdv("schedule", "remove", MODEL, "--yes")


def steps(person: Any) -> bool:
    """Whether the pipeline of the person's environment goes on."""
    found = person.servers.call("GET", f"/v1/jobs?namespace={ENV}-pipelines").json()
    return any("/dispatch-" in one["ID"] and one["Status"] != "dead" for one in found)
