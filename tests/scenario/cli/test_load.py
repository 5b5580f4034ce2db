"""`rdv load` as a person and a pipeline type it, against a gateway with a trained model."""

import json
import socket
from typing import Any
from xml.etree import ElementTree

from rdv.errors import Exit

RATE = ("--rate", "50", "--for", "2s", "--warm-up", "500ms")


def test_a_load_is_held_against_a_budget(serving: Any) -> None:
    """Within the budget: 0, JUnit and page. Outside: 7 and one sentence. All requests are in the gateway's ledger."""
    rdv = serving.rdv
    found = rdv.json("load", *RATE, "--budget", "p99=20s,errors=0", "--junit", "a/load.xml", "--html", "load.html")
    assert (found["sent"], found["errors"], found["kept"]) == (100, {}, True)
    assert found["answered"] + found["defaults"] == 100
    suite = ElementTree.parse(serving.folder / "a" / "load.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("3", "0")
    assert "Latency over time" in serving.folder.joinpath("load.html").read_text()

    refused = rdv("load", *RATE, "--budget", "p50=1us,errors=0")
    assert refused.returncode in (Exit.REFUSED, Exit.FAILED), refused.stderr  # the second: the client was late itself
    assert refused.stderr.count("rdv: ") == 1
    ledger = rdv.json("status")["gateways"][0]["goals"]["churn"]["ledger"]
    assert (ledger["accepted"], ledger["errors"], ledger["balances"]) == (250, 0, True)

    url = rdv.json("status")["gateways"][0]["url"]
    outside = type(rdv)(serving.folder.parent).json("load", "--goal", "churn", "--url", url, *RATE)
    assert outside["sent"] == 100

    bodies = serving.folder / "wrong.jsonl"
    bodies.write_text(json.dumps({"customer": "c", "plan": "gold", "months": 1, "calls": 1}) + "\n")
    wrong = rdv("load", *RATE, "--requests", str(bodies), "--budget", "errors=0")
    assert wrong.returncode == Exit.REFUSED
    assert "HTTP 400 (schema plan)" in wrong.stderr


def test_what_cannot_be_sent_is_said(new_project: Any) -> None:
    """Nobody there is 5; a budget, a rate, a time or a file that makes no sense is 3; each in one line."""
    rdv = new_project
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    empty = rdv.folder / "empty.jsonl"
    empty.write_text("\n")
    for arguments, code, told in (
        (RATE, Exit.UNREACHABLE, "no gateway"),
        ((*RATE, "--url", url), Exit.UNREACHABLE, "refused"),
        ((*RATE, "--url", url, "--goal", "churn"), Exit.UNREACHABLE, "refused"),
        ((*RATE, "--url", "gateway:8080"), Exit.USAGE, "no address"),
        ((*RATE, "--goal", "chrun"), Exit.USAGE, "chrun"),
        ((*RATE, "--budget", "p99=fast"), Exit.USAGE, "fast"),
        ((*RATE, "--url", url, "--requests", str(empty)), Exit.USAGE, "no request"),
        (("--rate", "0", "--for", "1s"), Exit.USAGE, "--rate"),
        (("--rate", "10", "--for", "1"), Exit.USAGE, "--for"),
    ):
        ended = rdv("load", *arguments)
        assert ended.returncode == code, ended.stderr
        assert told in ended.stderr
        assert len(ended.stderr.strip().splitlines()) <= 2
        assert ended.stdout == ""
