"""`rdv contract` as consumers' and providers' pipelines type it, with a pact that pact-python's own tests make."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rdv.errors import Exit

CONSUMER = """
import json, sys, urllib.request
from pathlib import Path
from pact import Pact, match
pact = Pact("web shop", "shop").with_specification("V4")
body = {"customer": "c1", "plan": "pro", "months": 3, "calls": 1, "spend": 10.5}
(pact.upon_receiving("a score for a customer").given("a model is served")
    .with_request("POST", "/v1/goals/churn/score").with_body(json.dumps(body), "application/json")
    .will_respond_with(200).with_body({"answer": match.number(0.5), "source": match.str("tier 1")}, "application/json"))
with pact.serve() as server:
    request = urllib.request.Request(
        f"{server.url}/v1/goals/churn/score", json.dumps(body).encode(), {"content-type": "application/json"})
    assert json.load(urllib.request.urlopen(request))["answer"] == 0.5
pact.write_file(Path(sys.argv[1]))
"""


@pytest.fixture
def pact(tmp_path: Path, require: Callable[..., str]) -> Path:
    """A pact file that a consumer's test has made."""
    require("pact", remedy="pip install pact-python")
    folder = tmp_path / "made"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", CONSUMER, str(folder)], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    (file,) = folder.glob("*.json")
    return file


def edited(file: Path, change: Callable[[dict[str, Any]], None], to: Path) -> Path:
    """The pact with a change."""
    told = json.loads(file.read_text())
    change(told)
    to.write_text(json.dumps(told))
    return to


def test_a_gateway_is_held_to_its_consumers(serving: Any, pact: Path, tmp_path: Path) -> None:
    """A recorded contract is held against schema and gateway; a value that differs is 7, with consumer and field."""
    rdv = serving.rdv
    assert rdv.json("contract", "verify") == []
    (row,) = rdv.json("contract", "publish", str(pact))
    assert (row["consumer"], row["goal"], row["interactions"], row["new"]) == ("web shop", "churn", 1, True)
    assert rdv.json("contract", "publish", str(pact))[0]["new"] is False
    assert [one["consumer"] for one in rdv.json("contract", "list")] == ["web shop"]
    told = rdv.json("contract", "verify", "--junit", "contract.xml")
    assert [(one["against"], one["kept"]) for one in told] == [("schema", True), ("gateway", True)]
    suite = ElementTree.parse(serving.folder / "contract.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "0")

    def exact(told: dict[str, Any]) -> None:
        told["consumer"]["name"] = "strict app"
        told["interactions"][0]["response"].pop("matchingRules")

    strict = edited(pact, exact, tmp_path / "strict.json")
    refused = rdv("contract", "verify", "--from", str(strict), "--junit", "contract.xml")
    assert refused.returncode == Exit.REFUSED
    assert "'strict app'" in refused.stderr
    assert "answer" in refused.stderr
    assert refused.stderr.count("rdv: ") == 1
    assert b"<failure" in (serving.folder / "contract.xml").read_bytes()
    url = rdv.json("status")["gateways"][0]["url"]
    assert len(rdv.json("contract", "verify", "--url", url, "--goal", "churn")) == 2


def test_a_schema_change_is_refused_before_anything_runs(new_project: Any, pact: Path, tmp_path: Path) -> None:
    """Nothing serves: a schema that takes a plan away breaks the consumer by name and field; withdrawing frees it."""
    rdv = new_project
    (rdv.folder / "contracts" / "consumers").mkdir(parents=True, exist_ok=True)
    assert rdv("contract", "publish", str(pact)).returncode == 0
    assert rdv.json("contract", "verify", "--schema-only")[0]["kept"] is True
    schema = rdv.folder / "schemas" / "churn.json"
    told = json.loads(schema.read_text())
    told["properties"]["plan"]["enum"] = ["basic", "plus"]
    schema.write_text(json.dumps(told))
    refused = rdv("contract", "verify", "--schema-only", "--junit", "contract.xml")
    assert refused.returncode == Exit.REFUSED
    assert "consumer 'web shop' of goal 'churn': field plan" in refused.stderr
    assert rdv("contract", "verify", "--url", "http://127.0.0.1:1").returncode == Exit.UNREACHABLE

    def other(told: dict[str, Any]) -> None:
        told["interactions"][0]["request"]["path"] = "/v1/goals/fraud/score"

    stranger = rdv("contract", "publish", str(edited(pact, other, tmp_path / "other.json")))
    assert stranger.returncode == Exit.USAGE
    assert "contract of goal 'fraud'" in stranger.stderr
    assert rdv("contract", "withdraw", "nobody", "--yes").returncode == Exit.USAGE
    assert rdv("contract", "withdraw", "web shop", "--yes").returncode == 0
    assert rdv.json("contract", "verify", "--schema-only") == []
    empty = tmp_path / "empty.json"
    empty.write_text("{}")
    assert rdv("contract", "publish", str(empty)).returncode == Exit.USAGE


LOOKUPS = """
import json, urllib.request
RATES = "http://rates.internal"
def rate(request):
    with urllib.request.urlopen(f"{RATES}/rates/{request['customer']}", timeout=1) as reply:
        return {"rate": json.load(reply)["rate"]}
"""


RATES = """
import http.server, json, sys
class Rates(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({sys.argv[1]: 0.25}).encode()
        self.send_response(200 if self.path.startswith("/rates/") else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *parts): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Rates)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def rates(field: str) -> Iterator[str]:
    """The address of a service that answers rates in that field."""
    argv = [sys.executable, "-P", "-c", RATES, field]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def test_another_service_is_held_to_what_a_lookup_needs(new_project: Any, require: Callable[..., str]) -> None:
    """The scaffold's example, as a test of the project, passes and leaves a pact, which is recorded; the other service

    keeps it as it runs, and breaks it by field when it answers otherwise. No goal of the project is held to it.
    """
    rdv = new_project
    require("pact", remedy="pip install pact-python")
    folder = new_project.folder
    (example,) = re.findall(r"```python\n(.*?)```", folder.joinpath("contracts", "README.md").read_text(), re.DOTALL)
    (folder / "lookups.py").write_text(LOOKUPS)
    (folder / "tests" / "test_lookups.py").write_text(example)
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:xdist", "tests/test_lookups.py"],
        cwd=folder, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (made,) = folder.joinpath("contracts", "own").glob("*.json")
    told = json.loads(made.read_text())
    assert (told["consumer"]["name"], told["provider"]["name"]) == ("shop", "rates")
    assert told["interactions"][0]["request"]["path"] == "/rates/c1"

    (row,) = rdv.json("contract", "publish", str(made))
    assert (row["goal"], row["consumer"], row["new"]) == ("", "shop", True)
    assert (rdv.json("contract", "list"), len(rdv.json("contract", "list", "--provider", "rates"))) == ([], 1)
    made.unlink()
    asked = ("contract", "verify", "--provider", "rates")
    with rates("rate") as url:
        assert [(one["against"], one["kept"]) for one in rdv.json(*asked, "--url", url)] == [("service", True)]
    assert rdv(*asked, "--url", url).returncode == Exit.UNREACHABLE
    with rates("price") as url:
        refused = rdv(*asked, "--url", url, "--junit", "rates.xml")
    assert refused.returncode == Exit.REFUSED
    assert "consumer 'shop': in 'the rate of a customer'" in refused.stderr
    assert "rate" in refused.stderr.splitlines()[-1]
    assert b"<failure" in (folder / "rates.xml").read_bytes()
    assert rdv(*asked).returncode == rdv(*asked[:3], "nobody", "--url", url).returncode == Exit.USAGE
