"""A Consul that comes back without its data while a cluster serves, and the way back to where things were."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from rdv.backends import select
from rdv.serving.ops_client import get
from rdv.settings import load_project

pytestmark = pytest.mark.live
MODEL = "visit/m"
AWAY_S = 10.0


def test_an_emptied_consul_unloads_nothing(own_serving: Any) -> None:
    """Requests are answered by the same version throughout, each of them once; what has to be typed is told.

    Instances cannot tell the new Consul of themselves: their tokens were in the old one. The registry is restored from
    the store, the instances are replaced, and releases reach everybody again.
    """
    serving = own_serving
    versions = serving.begin()
    consul, listeners = serving.cluster.servers.consul, ops(serving)

    def lose() -> None:
        consul.process.stop()
        consul.wipe()
        time.sleep(AWAY_S)
        consul.start()
        serving.cluster.up()  # rights and tokens, as Terraform would bring them back
        serving.rdv("registry", "rebuild", "--yes")
        time.sleep(AWAY_S)  # workers and proxies have looked at the new one by now

    found = serving.under_load(100, lose)
    print(f"Consul emptied: {found.sent} sent, {len(found.lost)} lost, {found.defaults} defaults, {found.statuses}")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    assert set(found.versions) == {versions[0]}
    ledgers = [json.loads(get(at, "/status"))["goals"]["visit"]["ledger"] for at in listeners]
    assert sum(one["accepted"] for one in ledgers) == found.sent
    assert sum(one["defaults"] for one in ledgers) == found.defaults
    assert sum(one["answered"] for one in ledgers) == found.sent - found.defaults
    assert all(one["balances"] for one in ledgers)
    assert "`rdv apply --env dev --anew` replaces them" in serving.rdv("status", code=5)
    assert all(one["healthy"] for one in serving.rdv("apply", "--anew", "-o", "json"))
    serving.whole()
    serving.rdv("plan", code=0)
    assert serving.rdv("deploy", MODEL, "--version", versions[1], "-o", "json")["replicas"] == 2


def ops(serving: Any) -> list[str]:
    """Where the gateways tell of themselves."""
    project = load_project(serving.town.folder, "dev")
    return [one.meta["ops"] for one in select.catalog(project).find(select.gateway_service(project)).instances]
