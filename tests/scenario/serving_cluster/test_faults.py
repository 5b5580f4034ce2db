"""What breaks while a cluster serves, and what whoever asks, and whoever changes something, sees of it."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"
AWAY_S = 60.0


def test_a_killed_gateway_and_a_killed_worker_lose_nothing(serving: Any) -> None:
    """At 300 requests a second, of two each one dies: the proxy asks the other gateway, and all ledgers balance."""
    serving.begin()
    status = serving.whole()
    gateway, worker = status["gateways"][0], status["workers"][0]

    def kill() -> None:
        os.kill(gateway["pid"], signal.SIGKILL)
        time.sleep(2.0)
        os.kill(worker["pid"], signal.SIGKILL)
        time.sleep(2.0)

    found = serving.under_load(300, kill)
    print(f"killed: {found.sent} sent, {len(found.lost)} lost, {found.defaults} defaults, {found.statuses}")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    views = serving.whole()["gateways"]
    for view in views:
        ledger = view["goals"]["visit"]["ledger"]
        assert ledger["balances"] is True
        assert ledger["accepted"] == ledger["answered"] + ledger["defaults"] + ledger["errors"] + ledger["open"]
    survivor = next(one for one in views if one["pid"] == status["gateways"][1]["pid"])
    assert survivor["goals"]["visit"]["ledger"]["accepted"] > found.sent / 4


def test_a_version_that_crashes_is_told_and_taken_back(serving: Any) -> None:
    """A change whose workers end at once fails with their reasons and last words; what ran before serves on."""
    serving.begin()
    serving.settings(worker_mb=16)  # too little for an interpreter
    told: list[str] = []
    found = serving.under_load(50, lambda: told.append(serving.rdv("apply", code=1)))
    assert "Terminated" in told[0]
    assert "137" in told[0]
    assert "brought back" in told[0]
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}


def test_consul_may_be_away_while_requests_are_answered(own_serving: Any) -> None:
    """A minute without Consul changes no answer, and a release after it reaches every worker."""
    versions = own_serving.begin()
    consul = own_serving.cluster.servers.consul
    port = own_serving.port()

    def away() -> None:
        consul.process.stop()
        time.sleep(AWAY_S)
        consul.start()

    found = own_serving.under_load(100, away, port=port)
    print(f"Consul away: {found.sent} sent, {len(found.lost)} lost, {found.defaults} defaults")
    assert not found.lost
    assert set(found.versions) == {versions[0]}
    own_serving.town.until(lambda: deploys(own_serving, versions[1]))


def test_a_change_is_followed_over_a_killed_nomad_server(own_serving: Any) -> None:
    """The server is killed and comes back in the middle of a rolling update: it is followed to its good end."""
    own_serving.begin()
    own_serving.settings(drain_s=9.0)
    nomad = own_serving.nomad
    following = own_serving.town.start("apply", "-o", "json")
    own_serving.town.until(lambda: own_serving.replacing("gateway"))
    nomad.server.kill()
    time.sleep(2.0)  # so that whoever follows it asks in vain
    nomad.start_server()
    done = own_serving.town.ended(following)
    assert "healthy" in str(done)
    own_serving.rdv("plan", code=0)


def deploys(serving: Any, version: str) -> bool:
    """Whether a release reaches every worker now."""
    try:
        serving.rdv("deploy", MODEL, "--version", version, "--timeout", "20", "-o", "json")
    except AssertionError:
        return False
    return True

