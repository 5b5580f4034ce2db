"""`rdv doctor`: exact where it can be, and with a remedy for whatever it finds."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rdv.errors import Exit


def test_the_built_in_goal_is_exact(tmp_path: Path, typed: Callable[[Path], Any]) -> None:
    """Real gateway, bus, workers and decoy answer the doctor's sums exactly, and leave nothing behind."""
    before = set(Path("/tmp").glob("rdv-doctor-*"))
    found = {one["check"]: one for one in typed(tmp_path).json("doctor")}
    assert found["built-in goal"]["verdict"] == "PASS"
    assert found["built-in goal"]["found"].startswith("200 answers exact")
    assert found["project"]["verdict"] == "SKIP"
    assert set(Path("/tmp").glob("rdv-doctor-*")) <= before


def test_every_failure_has_a_remedy(new_project: Any) -> None:
    """What is wrong with a project is found, each with what to do about it, and the command ends with 1."""
    folder = new_project.folder
    settings = (folder / "rdv.toml").read_text()
    (folder / "rdv.toml").write_text(settings.replace("data/churn.csv", "data/gone.csv"))
    records = folder / ".rdv" / "run" / "roles"
    records.mkdir(parents=True)
    (records / "gateway-0.json").write_text(
        json.dumps(
            {
                "role": "gateway",
                "name": "",
                "replica": "0",
                "pid": 1,
                "born": 1,
                "started": 0,
                "state": "ready",
                "details": {},
            }
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = new_project(
            "doctor", "--quick", "-o", "json", "--set", f"serve.port={port}", "--set", "serve.journal_mb=100000000"
        )
    assert ended.returncode == Exit.FAILED
    failed = {one["check"]: one for one in json.loads(ended.stdout) if one["verdict"] == "FAIL"}
    assert {"data files", "disk space", "process records", "port"} <= failed.keys()
    assert all(one["remedy"] for one in failed.values())
    assert all(name in ended.stderr for name in failed)


def test_a_broken_rdv_toml_is_one_failure(new_project: Any) -> None:
    """A file that cannot be read fails one check with its place; the machine is checked all the same."""
    (new_project.folder / "rdv.toml").write_text("[goals\n")
    ended = new_project("doctor", "--quick", "-o", "json")
    found = json.loads(ended.stdout)
    assert ended.returncode == Exit.FAILED
    assert [one["check"] for one in found if one["verdict"] == "FAIL"] == ["rdv.toml"]
    assert len(found) > 10
