"""How another version reaches every worker while requests go on: two gateways, two workers, each way of reloading."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rdv.clock import SystemClock
from rdv.releases import pointer

pytestmark = pytest.mark.live
MODEL = "visit/m"
RELEASES = 2
WORKERS = 3
BETWEEN_S = 0.1
"""Between two moves of the pointer, while workers start."""


@pytest.mark.parametrize("reload", ["template", "watch"])
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


def test_a_release_may_come_while_workers_start(serving: Any) -> None:
    """However often the pointer moves while workers start, and start again, they come up, and end on the last one."""
    versions = [serving.train(2.0), serving.train(1.0)]
    serving.rdv("deploy", MODEL, "--version", versions[0], "--timeout", "0")
    serving.settings(replicas=WORKERS, proxies=0)
    with moving(serving.town.project_registry(), versions) as moves:
        serving.apply()
        before = serving.until(lambda now: len(now["workers"]) == WORKERS)["workers"]
        for one in before:
            os.kill(one["pid"], signal.SIGKILL)
        gone = {one["pid"] for one in before}
        serving.until(lambda now: len({one["pid"] for one in now["workers"]} - gone) == WORKERS)
    serving.until(lambda now: {one["details"].get("version") for one in now["workers"]} == {moves[-1]})
    print(f"the pointer moved {len(moves)} times")
    assert [one.restarts for one in serving.job("worker", MODEL).instances] == [1] * WORKERS


@contextmanager
def moving(registry: Any, versions: list[str]) -> Iterator[list[str]]:
    """Move the pointer to and fro meanwhile; the moves that were made."""
    stop, moves = threading.Event(), list[str]()

    def move() -> None:
        while not stop.wait(BETWEEN_S):
            version = versions[len(moves) % 2]
            pointer.deploy(registry, MODEL, version, "test", SystemClock())
            moves.append(version)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield moves
    finally:
        stop.set()
        thread.join()
