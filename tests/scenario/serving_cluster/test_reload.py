"""How another version reaches every worker while requests go on: two gateways, two workers, each way of reloading."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"
RELEASES = 2


@pytest.mark.parametrize("reload", ["signal", "watch"])
def test_a_release_loses_no_request(serving: Any, reload: str) -> None:
    """At 300 requests a second every worker serves the new version within 2 s, nothing is lost, and nobody waits."""
    versions = serving.begin(reload=reload)
    took: list[float] = []

    def release() -> None:
        for version in versions[1:] * RELEASES + versions[:1]:
            took.append(serving.rdv("deploy", MODEL, "--version", version, "-o", "json")["waited_s"])

    found = serving.under_load(300, release)
    print(f"{reload}: {found.sent} sent, {found.defaults} defaults, p99 {found.quantile_ms(0.99):.1f} ms, took {took}")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    assert set(found.versions) == set(versions)
    assert (max(took) < 2.0 and found.defaults <= found.sent / 10_000) or found.crowded


def test_workers_are_restarted_one_after_the_other(serving: Any) -> None:
    """With `restart`, at 100 requests a second, nothing is lost: one worker serves while the other begins anew."""
    versions = serving.begin(reload="restart")
    before = {one.id for one in serving.job("worker", MODEL).instances}
    found = serving.under_load(100, lambda: serving.rdv("deploy", MODEL, "--version", versions[1], "-o", "json"))
    print(f"restart: {found.sent} sent, {found.defaults} defaults, p99 {found.quantile_ms(0.99):.1f} ms")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    assert set(found.versions) == set(versions)
    after = serving.job("worker", MODEL).instances
    assert {one.id for one in after} == before
    assert all(one.restarts for one in after)
