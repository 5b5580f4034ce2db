"""A schedule's way to the end: trained, validated, published and released by the clock, and swapped in under load."""

from __future__ import annotations

from typing import Any

import pytest

from rdv.releases import pointer

pytestmark = pytest.mark.live
MODEL = "visit/m"
RATE = 150


def test_what_the_clock_trains_is_swapped_in_under_load(scheduled: Any) -> None:
    """The clock begins a training on the batch cluster, whose version is released as the model says; two workers of the

    services cluster take it up behind two gateways, and of the requests that go on meanwhile none is lost.
    """
    town, registry = scheduled.town, scheduled.town.project_registry()
    first = scheduled.train(2.0)
    town.mark("hold")
    scheduled.rdv("schedule", MODEL, "--cron", "* * * * *", "-P", "offset=1.0", "-o", "json")
    scheduled.settings(gateways=2, replicas=2, reload="template")
    scheduled.apply()
    scheduled.whole()
    town.until(lambda: len(town.trained()) == 2)  # the clock has begun, and its step waits for us

    def retrain() -> None:
        scheduled.rdv("schedule", "pause", MODEL)
        town.mark("go")
        town.until(lambda: versions(scheduled) == {pointer.current(registry, MODEL).version} - {first})

    found = scheduled.under_load(RATE, retrain)
    second = pointer.current(registry, MODEL)
    print(f"{found.sent} sent, {found.defaults} defaults, p99 {found.quantile_ms(0.99):.1f} ms")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    assert set(found.versions) == {first, second.version}
    assert found.defaults <= found.sent / 100 or found.crowded  # a training takes this machine meanwhile
    assert (second.previous, second.serial) == (first, 2)
    assert second.by.startswith("run ")
    [entry] = town.until(
        lambda: [
            one for one in scheduled.rdv("schedule", "history", MODEL, "-o", "json") if one["status"] == "succeeded"
        ]
    )
    assert entry["exit_code"] == 0
    assert town.trained() == [1.0, 2.0]


def versions(scheduled: Any) -> set[str]:
    """What the workers serve, each as every gateway sees it."""
    told = scheduled.rdv("status", "-o", "json")
    replicas = [
        one for gateway in told["gateways"] for one in gateway["goals"]["visit"]["models"][MODEL]["replicas"]
    ]
    return {one["version"] for one in replicas} if len(replicas) == 4 else set()
