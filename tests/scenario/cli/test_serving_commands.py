"""Commands on a project that is served: status, deploy, rollback, replay, report."""

import csv
import json
import urllib.request
from typing import Any

from rdv.errors import Exit

MODEL = "churn/lightgbm"


def ask(url: str, case: dict[str, Any]) -> dict[str, Any]:
    """The gateway's answer to a request."""
    request = urllib.request.Request(
        f"{url}/v1/goals/churn/score", json.dumps(case).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def cases(shop: Any, count: int) -> list[dict[str, Any]]:
    """The first rows of the project's data as requests."""
    with shop.folder.joinpath("data", "churn.csv").open() as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(count), strict=False)]
    return [
        {"customer": row["customer"], "plan": row["plan"], "months": int(row["months"]), "calls": int(row["calls"])}
        | ({"spend": float(row["spend"])} if row["spend"] else {})
        for row in rows
    ]


def test_a_version_goes_in_and_out_while_it_is_served(serving: Any) -> None:
    """Status, deploy, rollback, replay, score and report tell one story about the same requests."""
    rdv, (first, second) = serving.rdv, serving.versions
    status = rdv.json("status")
    url = status["gateways"][0]["url"]
    assert {child["name"] for child in status["supervisor"]["details"]["children"]} >= {"gateway", "decoy", "schedules"}
    asked = cases(serving, 30)
    before = [ask(url, case) for case in asked]
    assert {one["version"] for one in before} == {first}

    deployed = rdv.json("deploy", MODEL)
    assert (deployed["version"], deployed["instead_of"], deployed["replicas"]) == (second, first, 1)
    assert {ask(url, case)["version"] for case in asked} == {second}
    back = rdv.json("rollback", MODEL)
    assert (back["version"], back["kind"]) == (first, "rollback")
    assert [ask(url, case)["answer"] for case in asked] == [one["answer"] for one in before]

    ledger = rdv.json("status")["gateways"][0]["goals"]["churn"]["ledger"]
    assert (ledger["accepted"], ledger["balances"], ledger["errors"]) == (90, True, 0)
    scored = rdv("score", MODEL, "--input", "data/churn.csv", "-o", "jsonl").stdout.splitlines()[:30]
    assert [json.loads(line)["score"] for line in scored] == [one["answer"] for one in before]
    replayed = rdv.json("replay", MODEL, "--version", "current")
    assert (replayed["version"], replayed["rows"]) == (first, 90)
    assert replayed["comparison"]["requests"] == 90
    assert rdv.json("report", "--to", "page.html")["requests"] == 90
    page = serving.folder.joinpath("page.html").read_text()
    assert "balances" in page
    assert f"deploy of {MODEL} to {second}" in page
    assert second in rdv("status").stdout + rdv("models", "show", MODEL, "newest", "-o", "md").stdout


def test_a_second_server_is_told_about_the_first(serving: Any) -> None:
    """A project is served once: the second `rdv serve` says who serves it already and ends with 3."""
    ended = serving.rdv("serve")
    assert ended.returncode == Exit.USAGE
    assert "served already" in ended.stderr


def test_the_doctor_finds_a_served_project_well(serving: Any) -> None:
    """Every check of a project that is being served passes or says why it does not apply."""
    found = serving.rdv.json("doctor", "--quick")
    assert {one["verdict"] for one in found} <= {"PASS", "SKIP"}
    assert {"rdv.toml", "registry", "artifacts", "journals", "process records"} <= {one["check"] for one in found}
