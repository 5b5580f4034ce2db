"""The server of the services' Nomad dies while something is changed: serving goes on, and the same command ends it."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"


def test_a_change_that_lost_its_nomad_is_followed_by_the_next(own_serving: Any) -> None:
    """`rdv apply` ends with 5 and says what to type, a release needs no server, and the second run sees the end.

    No request is lost meanwhile.
    """
    serving, nomad = own_serving, own_serving.nomad
    versions = serving.begin()
    serving.settings(gateway_mb=320)

    def change() -> None:
        following = serving.town.start("apply", "--timeout", "12", "-o", "json")
        serving.town.until(lambda: serving.replacing("gateway"))
        nomad.server.kill()
        told = serving.town.ended(following, 5)
        assert "`rdv apply --env dev` does the rest" in told
        released = serving.rdv("deploy", MODEL, "--version", versions[1], "-o", "json")
        assert (released["version"], released["replicas"]) == (versions[1], 2)
        nomad.start_server()
        assert {one["name"]: one["healthy"] for one in serving.rdv("apply", "-o", "json")} == {"gateway": 2}

    found = serving.under_load(100, change)
    print(f"Nomad away: {found.sent} sent, {len(found.lost)} lost, {found.defaults} defaults, {found.statuses}")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    assert set(found.versions) == set(versions)
    serving.rdv("plan", code=0)


def test_restarts_that_lost_their_nomad_are_gone_on_with(own_serving: Any) -> None:
    """A release by restarts whose Nomad dies half-way ends with 5 and stands, and the same command does the rest.

    No request is lost meanwhile: one worker serves in any case.
    """
    serving, nomad = own_serving, own_serving.nomad
    versions = serving.begin(reload="restart")
    deploy = ("deploy", MODEL, "--version", versions[1], "-o", "json")

    def release() -> None:
        following = serving.town.start(*deploy, "--timeout", "20")
        serving.town.until(lambda: any(one.restarts for one in serving.job("worker", MODEL).instances))
        nomad.server.kill()
        told = serving.town.ended(following, 5)
        assert f"release 2 stands; `rdv deploy {MODEL} --version {versions[1]}`" in told
        nomad.start_server()
        assert serving.rdv(*deploy)["replicas"] == 2

    found = serving.under_load(100, release)
    print(f"Nomad away: {found.sent} sent, {len(found.lost)} lost, {found.defaults} defaults, {found.statuses}")
    assert not found.lost
    assert dict(found.statuses) == {200: found.sent}
    assert [one.restarts for one in serving.job("worker", MODEL).instances] == [1, 1]
