"""The catalog in Consul: the agent stopped, frozen, restarted with and without its data, and rights that lack."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.ports_services import Found, Instance
from rdv.errors import NotAuthorised, Unreachable

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("no_consul_environment")]
HANG_S = 180.0
SERVICE = "dev-shop-gateway"
ONE = Instance(id="a", host="127.0.0.1", port=4000, meta={"version": "v1"})


@pytest.fixture
def catalog(own_consul: Any, tmp_path: Path) -> Callable[..., Any]:
    """catalog(address): a catalog of this test, with a token that is in its file `token`."""
    from rdv.backends.consul.catalog import ConsulCatalog

    (tmp_path / "token").write_text(own_consul.token)

    def make(address: str = "") -> Any:
        return ConsulCatalog(f"dev?address={address or own_consul.address}&token_file={tmp_path / 'token'}")

    return make


def until(catalog: Any, true: Callable[[Found], bool]) -> Found:
    """What is found once something is so."""
    found, end = Found((), 0), time.monotonic() + HANG_S
    while time.monotonic() < end:
        found = catalog.watch(SERVICE, found.index, 1.0)
        if true(found):
            return found
    raise AssertionError(f"never so: {found}")


def test_a_stopped_agent_is_unreachable_and_remembers(own_consul: Any, catalog: Callable[..., Any]) -> None:
    """Without the agent every call is Unreachable; back with its data it knows the instance, and goes on with it."""
    ours = catalog()
    ours.announce(SERVICE, ONE, 600.0)
    own_consul.process.stop()
    try:
        for name, *more in (("announce", ONE, 1.0), ("withdraw", "a"), ("find",), ("watch", 1, 1.0)):
            with pytest.raises(Unreachable, match="does not answer"):
                getattr(ours, name)(SERVICE, *more)
    finally:
        own_consul.start()
    assert until(ours, lambda found: bool(found.instances)).instances == (ONE,)
    ours.announce(SERVICE, ONE, 600.0)
    assert ours.find(SERVICE).instances == (ONE,)


def test_a_frozen_agent_is_found_out(own_consul: Any, catalog: Callable[..., Any]) -> None:
    """An agent that says nothing is Unreachable within seconds, and its instances are found once it runs on."""
    ours = catalog()
    ours.announce(SERVICE, ONE, 600.0)
    own_consul.process.freeze()
    try:
        for call in (lambda: ours.find(SERVICE), lambda: ours.announce(SERVICE, ONE, 600.0)):
            with pytest.raises(Unreachable):
                call()
    finally:
        own_consul.process.thaw()
    assert until(ours, lambda found: bool(found.instances)).instances == (ONE,)


def test_an_agent_that_lost_everything_is_told_anew(own_consul: Any, catalog: Callable[..., Any]) -> None:
    """After a loss of all data the next announcement registers the instance again, and a watch sees it."""
    ours = catalog()
    ours.announce(SERVICE, ONE, 600.0)
    before = until(ours, lambda found: bool(found.instances))
    own_consul.process.stop()
    own_consul.wipe()
    own_consul.start()
    lost = ours.watch(SERVICE, before.index, HANG_S)
    assert lost.instances == ()
    seen: list[Found] = []
    watch = threading.Thread(target=lambda: seen.append(catalog().watch(SERVICE, lost.index, HANG_S)))
    watch.start()
    ours.announce(SERVICE, ONE, 600.0)
    watch.join(HANG_S)
    assert seen == [before]


def test_a_silent_instance_is_critical_and_forgotten(
    own_consul: Any, catalog: Callable[..., Any], full: bool
) -> None:
    """An instance that says no more is listed as critical, found again when it speaks, and forgotten when it does not.

    It is forgotten after a minute at the earliest, which the long form waits for.
    """
    ours = catalog()
    ours.announce(SERVICE, ONE, 0.5)
    until(ours, lambda found: not found.instances)
    (entry,) = own_consul.call("GET", f"/v1/health/service/{SERVICE}").json()
    (check,) = [one for one in entry["Checks"] if one["ServiceID"]]
    assert check["Status"] == "critical"
    ours.announce(SERVICE, ONE, 0.5)
    until(ours, lambda found: bool(found.instances))
    end = time.monotonic() + (3 * HANG_S if full else 0.0)
    while time.monotonic() < end and own_consul.call("GET", f"/v1/health/service/{SERVICE}").json():
        time.sleep(0.5)
    assert bool(own_consul.call("GET", f"/v1/health/service/{SERVICE}").json()) is not full


def test_jobs_of_nomad_are_found_beside(own_consul: Any, catalog: Callable[..., Any]) -> None:
    """A service that another one registered is found under the id of its meta, else Consul's, its node's address."""
    for name, more in (("x", {"Address": "10.0.0.9", "Meta": {"instance": "mine", "ops": "10.0.0.9:2"}}), ("y", {})):
        body = {"Name": SERVICE, "ID": f"_nomad-task-{name}", "Port": 7, **more}
        assert own_consul.call("PUT", "/v1/agent/service/register", body).ok
    found = until(catalog(), lambda found: len(found.instances) == 2)
    assert found.instances == (
        Instance(id="_nomad-task-y", host="127.0.0.1", port=7),
        Instance(id="mine", host="10.0.0.9", port=7, meta={"ops": "10.0.0.9:2"}),
    )


def test_rights_are_for_names_that_begin_so(own_consul: Any, catalog: Callable[..., Any], tmp_path: Path) -> None:
    """A token of one environment announces there and not elsewhere, is not shown, and a new one is taken up."""
    rules = 'service_prefix "dev-" { policy = "write" } node_prefix "" { policy = "read" }'
    token = own_consul.new_token("dev", rules)
    (tmp_path / "token").write_text(token)
    ours = catalog()
    ours.announce(SERVICE, ONE, 600.0)
    with pytest.raises(NotAuthorised) as caught:
        ours.announce("production-shop-gateway", ONE, 600.0)
    assert token not in repr(caught.value)
    (tmp_path / "token").write_text(own_consul.new_token("other", 'service_prefix "x" { policy = "read" }'))
    with pytest.raises(NotAuthorised):
        ours.announce(SERVICE, ONE, 600.0)
    with pytest.raises(NotAuthorised):
        ours.withdraw(SERVICE, "a")
    (tmp_path / "token").write_text(token)
    ours.withdraw(SERVICE, "a")
    until(ours, lambda found: not found.instances)


def test_the_doctor_looks_for_the_rights(own_consul: Any, catalog: Callable[..., Any], tmp_path: Path) -> None:
    """A token that may announce and find passes, with how many are there; one that may not fails with what it lacks."""
    from rdv.backends.diagnosis.consul import diagnose_catalog

    place, file = f"dev?address={own_consul.address}&token_file={tmp_path / 'token'}", tmp_path / "token"
    catalog().announce(SERVICE, ONE, 600.0)
    rules = 'service_prefix "dev-" { policy = "write" } node_prefix "" { policy = "read" }'
    file.write_text(own_consul.new_token("all", rules))
    (good,) = diagnose_catalog(place, {}, SERVICE)
    assert (good.good, good.found) == (True, f"1 instances of {SERVICE}")
    file.write_text(own_consul.new_token("look", 'service_prefix "dev-" { policy = "read" }'))
    (bad,) = diagnose_catalog(place, {}, SERVICE)
    assert bad.good is False
    assert "may not read nodes and write services" in bad.found
    file.write_text("11111111-2222-3333-4444-555555555555")
    (refused,) = diagnose_catalog(place, {}, SERVICE)
    assert refused.good is False
    assert "cannot be looked up" in refused.found


def test_a_watch_is_no_loop(own_consul: Any, catalog: Callable[..., Any], faulty_proxy: Callable[..., Any]) -> None:
    """A watch beside instances that come and go, and speak again and again, takes few requests."""
    proxy = faulty_proxy(own_consul.port)
    direct = catalog()
    direct.announce(SERVICE, ONE, 600.0)
    found = until(direct, lambda found: bool(found.instances))
    watch = threading.Thread(target=lambda: catalog(proxy.address).watch(SERVICE, found.index, 1.0))
    watch.start()
    while watch.is_alive():
        direct.announce(SERVICE, ONE, 600.0)
        direct.announce("dev-other-gateway", Instance(id="b", host="h", port=int(time.time()) % 1000 + 1), 600.0)
    watch.join()
    assert len(proxy.requests) <= 10
