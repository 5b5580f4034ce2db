"""A version of the serving jobs whose processes end as soon as they begin."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"
LAST_WORDS = "there is no way to begin"


def test_a_change_whose_instances_end_at_once_is_no_success(serving: Any) -> None:
    """The first version and a later one end with 1, reasons and last words; so does the first one's second try.

    The version before a later one is brought back, and answers all the while.
    """
    file, crash = serving.town.folder / "rdv.toml", serving.town.folder / "crash"
    crash.write_text(f"#!/bin/sh\necho '{LAST_WORDS}' >&2\nexit 3\n")
    crash.chmod(0o755)
    serving.train(2.0)
    serving.rdv("deploy", MODEL, "--timeout", "0")
    serving.settings(gateways=2, replicas=2)
    good = file.read_text()
    bad = good.replace('services = "nomad:dev?', f'services = "nomad:dev?python={crash}&')
    assert bad != good
    file.write_text(bad)
    for _ in range(2):
        told = serving.rdv("apply", code=1)
        assert "Exit Code: 3" in told
        assert f"| {LAST_WORDS}" in told
        assert "`rdv apply --anew` tries the same again" in told
    file.write_text(good)
    serving.apply()
    serving.whole()

    def spoil() -> None:
        file.write_text(bad)
        told = serving.rdv("apply", code=1)
        assert f"| {LAST_WORDS}" in told
        assert "the version before was brought back and serves" in told

    found = serving.under_load(50, spoil)
    print(f"spoilt: {found.sent} sent, {len(found.lost)} lost, {found.defaults} defaults, {found.statuses}")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    file.write_text(good)
    serving.rdv("plan", code=0)
