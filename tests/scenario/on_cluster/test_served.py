"""A model that a cluster has trained, served on this machine."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"


def test_a_worker_takes_up_what_is_deployed_through_consul(town: Any) -> None:
    """An embedded worker loads from S3 the version that Consul points to, and the next one without a restart."""
    first = town.rdv("train", MODEL, "-P", "offset=2.0", "-o", "json")["version"]
    town.rdv("deploy", MODEL)
    serving = town.start("up")
    try:
        [gateway] = town.rdv("status", "--wait", "60", "-o", "json")["gateways"]
        assert town.ask(gateway["url"]) == {"version": first, "answer": 5.0}
        second = town.rdv("train", MODEL, "-P", "offset=1.0", "-o", "json")["version"]
        assert town.ask(gateway["url"])["version"] == first
        town.rdv("deploy", MODEL)
        assert town.ask(gateway["url"]) == {"version": second, "answer": 4.0}
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=60)
