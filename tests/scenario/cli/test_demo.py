"""`rdv demo`, the main job: on real data, with real processes and faults, in a short form."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.errors import Exit


@pytest.fixture
def data_is_there(require: Callable[..., str]) -> None:
    """The demo's optional libraries are installed."""
    require("statsmodels", remedy="pip install 'rdv[demo]'")
    require("catboost", remedy="pip install 'rdv[demo]'")


def test_the_demo_holds_what_it_promises(tmp_path: Path, typed: Callable[[Path], Any], data_is_there: None) -> None:
    """Every request is answered and in the ledger, both versions answered, both faults left a trace and healed."""
    rdv = typed(tmp_path)
    ended = rdv("demo", "d", "--requests", "1000", "--rate", "60", "-o", "json")
    assert ended.returncode == Exit.OK, ended.stderr
    found = json.loads(ended.stdout)
    lines = {one["what"]: one for one in found["The ledger"]}
    assert lines["accepted by the gateway"]["requests"] == 1_000
    assert all(one["holds"] is not False for one in lines.values())
    assert sum(what.startswith("SIG") for what in lines) == 2
    assert sum("the swap" in what for what in lines) == 2
    assert sum(one["requests"] for one in found["Who answered"]) == 1_000
    right = {one["who"]: one for one in found["Were they right?"]}
    assert right["the answers that were given"]["auc"] > 0.6
    assert "<svg" in Path(found["page"]).read_text()
    assert "everything held" in ended.stderr
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "rdv.toml").write_text("project = 'mine'\n")
    assert rdv("demo", "mine").returncode == Exit.USAGE
    assert (mine / "rdv.toml").read_text() == "project = 'mine'\n"


def test_the_demo_can_be_kept(tmp_path: Path, typed: Callable[[Path], Any], data_is_there: None) -> None:
    """With --keep it goes on serving after its end, says how to ask it, and ends when it is told so."""
    ended = typed(tmp_path)("demo", "d", "--requests", "500", "--rate", "60", "--keep", "-o", "json")
    pid = int(ended.stderr.rsplit("kill ", 1)[1].split()[0])
    try:
        assert ended.returncode == Exit.OK, ended.stderr
        line = next(line for line in ended.stderr.splitlines() if "curl" in line)
        url, body = line.split("curl -s ")[1].split(" ")[0], line.split("-d '")[1].rstrip("'")
        request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert 0 <= json.load(reply)["answer"] <= 1
        folder = ended.stderr.split("rdv status --project ")[1].split()[0]
        assert typed(tmp_path)("status", "--project", folder).returncode == Exit.OK
        again = typed(tmp_path)("demo", "d")
        assert again.returncode == Exit.USAGE
        assert "still serves" in again.stderr
    finally:
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 60
        while Path("/proc", str(pid)).exists() and time.monotonic() < until:
            time.sleep(0.05)
