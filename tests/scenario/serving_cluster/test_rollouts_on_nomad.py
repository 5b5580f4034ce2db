"""Canaries as instances of a worker's job on Nomad: begun, answering, promoted, dropped, and finished after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from killed import before_write
from msgspec.structs import replace

from rdv.backends import select
from rdv.records import Pin, Version, decode, encode, version_key
from rdv.settings import load_project

pytestmark = pytest.mark.live
MODEL = "visit/m"
REGISTRY = "rdv.backends.consul.registry:ConsulRegistry"
UNHEARD = """
import sys
from rdv.backends.nomad.services_api import ServicesApi
from rdv.errors import Unreachable
promote = ServicesApi.promote
def unheard(self, deployment):
    promote(self, deployment)
    raise Unreachable("the answer was lost")
ServicesApi.promote = unheard
from rdv.cli.main import main
sys.exit(main())
"""


def unheard(serving: Any, *words: str) -> None:
    """Type a command to whom Nomad's answer about a promotion is lost; it ends well."""
    argv = [sys.executable, "-P", "-c", UNHEARD, *words, "--env", "dev"]
    done = subprocess.run(argv, cwd=serving.town.folder, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done


def killed(serving: Any, at: int, *words: str) -> None:
    """Type a command that is killed before its so-manieth write to the registry."""
    done = before_write(REGISTRY, at, serving.town.folder, *words, "--env", "dev")
    assert done.returncode == -signal.SIGKILL, done


@pytest.fixture
def served(serving: Any) -> Any:
    """Two gateways and two workers of a first version."""
    serving.first = serving.train(2.0)
    serving.rdv("deploy", MODEL, "--timeout", "0")
    serving.settings(gateways=2, replicas=2)
    serving.apply()
    return serving


def healthy(serving: Any) -> list[bool]:
    """Whether each running worker is a canary."""
    return [one.canary for one in serving.job("worker", MODEL).instances if one.state == "running"]


def test_canaries_are_promoted_and_dropped_under_load(served: Any) -> None:
    """Beside the old workers, pinned in the job's spec; promoted they are the workers, dropped the job is as before.

    Their number can be changed meanwhile. No request is lost; after a rollback nobody is answered by the canary.
    """
    second = served.train(1.5)
    ask = ["deploy", MODEL, "--canary", "2", "--share", "0.5", "--timeout", "240"]

    def promoted() -> None:
        killed(served, 2, *ask)  # its canaries run, and nobody has written down their mark
        told = served.rdv(*ask, "-o", "json")
        assert (told["state"], told["gateways"], told["version"]) == ("canary", 2, second)
        assert sorted(healthy(served)) == [False, False, True, True]
        assert served.job("worker", MODEL).pin == Pin(second, 2)
        served.town.until(lambda: second in served.load.versions)
        killed(served, 2, "promote", MODEL)  # it is decided, and the pointer has not moved
        unheard(served, "promote", MODEL, "--timeout", "240")

    load = served.under_load(50.0, promoted)
    assert not load.lost
    assert set(load.statuses) == {200}
    assert set(load.versions) == {served.first, second}
    assert [row["state"] for row in served.rdv("rollouts", MODEL, "-o", "json")] == ["promoted"]
    served.town.until(lambda: healthy(served).count(False) == 2)

    third = served.train(1.0)
    over = 0.0

    def rolled_back() -> None:
        nonlocal over
        served.rdv(*ask, "-o", "json")
        assert served.rdv(*ask[:3], "1", "--timeout", "240", "-o", "json")["canaries"] == 1
        served.town.until(lambda: sorted(healthy(served)) == [False, False, True])
        served.town.until(lambda: third in served.load.versions)
        killed(served, 2, *ask[:3], "3")  # they are three, and nobody has written down their new mark
        killed(served, 2, "rollback", MODEL)
        assert served.rdv("rollback", MODEL, "-o", "json")["state"] == "rolled_back"
        over = time.monotonic()

    load = served.under_load(50.0, rolled_back, after_s=3.0)
    assert not load.lost
    assert load.versions[third] < over
    assert served.job("worker", MODEL).pin == Pin(second, 2)
    assert [row["state"] for row in served.rdv("rollouts", MODEL, "-o", "json")] == ["rolled_back", "promoted"]


def spoiled(serving: Any, version: str, folder: Path) -> str:
    """A version with the bytes of another one that no worker can serve: its probe scores are not its own."""
    project = load_project(serving.town.folder, "dev")
    store, registry = select.artifacts(project), select.registry(project)
    entry = registry.get(version_key(MODEL, version))
    assert entry is not None
    record = decode(Version, entry.value, "")
    manifest = store.manifest(record.artifact)
    assert manifest is not None
    assert manifest.model is not None
    for file in manifest.files:
        folder.joinpath(file.path).write_bytes(store.fetch(manifest, file.path, folder / "fetched").read_bytes())
        folder.joinpath("fetched").unlink(missing_ok=True)
    wrong = tuple(tuple(value + 1.0 for value in row) for row in manifest.model.probe_scores)
    bad = replace(manifest, name=f"{manifest.name}-bad", model=replace(manifest.model, probe_scores=wrong))
    store.publish(bad, folder)
    told = replace(record, version="bad", artifact=bad.name, digest=bad.digest())
    registry.put(version_key(MODEL, "bad"), encode(told), 0)
    return "bad"


def test_a_canary_that_never_becomes_healthy_is_held_and_taken_back(served: Any, tmp_path: Path) -> None:
    """Nobody is answered by it, the command ends with 6 or 7 and not with 0, and a rollback brings the job back."""
    folder = tmp_path / "bad"
    folder.mkdir()
    bad = spoiled(served, served.first, folder)

    def tried() -> None:
        ask = served.town.start("deploy", MODEL, "--canary", "1", "--version", bad, "--timeout", "30")
        out, err = ask.communicate(timeout=300)
        assert ask.returncode in (6, 7), (out, err)
        state = served.rdv("rollouts", MODEL, "-o", "json")[0]["state"]
        assert state == {6: "planned", 7: "rolled_back"}[ask.returncode]
        if state == "planned":
            assert served.rdv("rollback", MODEL, "-o", "json")["state"] == "rolled_back"

    load = served.under_load(20.0, tried)
    assert not load.lost
    assert set(load.versions) == {served.first}
    assert served.job("worker", MODEL).pin is None
    served.town.until(lambda: healthy(served) == [False, False])
