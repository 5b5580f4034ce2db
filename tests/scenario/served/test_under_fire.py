"""Processes are killed and stopped while they answer; afterwards every request is where it belongs, by id."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from rdv.errors import UsageError
from rdv.serving.processes.supervisor import serve
from rdv.serving.status import wait_until_served

TIMES = 5
CLIENTS = 4
# before its end a gateway may hold an answered request's event (until every model has scored, a second at most) and its
# row for the decoy (some 20 ms); both end with it
HELD_S = 2.5
BUSES = ("frames", "grpc")
FAULTS = pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["kill", "stop"])


@pytest.fixture(params=BUSES)
def site(site: Any, request: pytest.FixtureRequest, on_bus: Callable[[Any, str], Any]) -> Any:
    """The site on either bus; between hosts with certificates on both ends."""
    return on_bus(site, request.param)


def check_exact(site, seen) -> None:
    """The ledger of a gateway that lived through it all: nothing lost, nothing twice, nothing unknown."""
    view = site.settled_ledger()
    ledger, bus = view["goals"][site.GOAL]["ledger"], view["bus"][site.GOAL]
    assert ledger["balances"]
    assert (ledger["errors"], ledger["open"], seen.unknown, seen.refused) == (0, 0, [], [])
    assert ledger["accepted"] == ledger["answered"] + ledger["defaults"] == len(seen.answers)
    assert bus["decoy"]["answered"] + bus["decoy"]["skipped"] + bus["decoy"]["dropped"] == ledger["accepted"]
    found = site.match(seen)
    assert len(found.not_kept) == bus["decoy"]["skipped"] + bus["decoy"]["dropped"] == 0
    assert not any((found.not_told, found.kept_twice, found.told_twice, found.kept_only, found.told_only))
    site.check_answers(seen)


def check_after_loss(site, seen, losses: list[tuple[float, float]]) -> None:
    """The ledger over gateways that died: only what was in flight then may be unknown.

    losses: when each fault was made, and when whoever met it was gone.
    """
    site.settled_ledger()
    assert seen.refused == []
    # a client may break off twice at one loss: its request in flight, and a connection that nobody took any more
    assert len(seen.unknown) <= 2 * CLIENTS * len(losses)
    found = site.match(seen)
    assert found.kept_twice == found.told_twice == ()
    # what a client never heard of, but was taken in: in flight at a loss
    assert len({*found.kept_only, *found.told_only}) <= CLIENTS * len(losses)
    for one in {*found.not_told, *found.not_kept}:
        moment = seen.answers[one][2]
        assert any(made - HELD_S <= moment <= gone for made, gone in losses), f"{one} was answered and then lost"
    site.check_answers(seen)


@FAULTS
def test_a_worker_that_is_killed_or_stopped(site, fault: signal.Signals) -> None:
    """The champion's worker dies or stands still: every request is answered all the same, and it is replaced."""
    site.start()
    with site.load(CLIENTS) as seen:
        for _ in range(TIMES):
            site.enough(seen)
            pid = site.pid("worker", site.CHAMPION)
            os.kill(pid, fault)
            site.replaced("worker", site.CHAMPION, pid)
        site.enough(seen)
    check_exact(site, seen)
    children = {one["name"]: one for one in site.settled().supervisor.details["children"]}
    assert children[f"worker {site.CHAMPION} 0"]["starts"] == TIMES + 1
    assert children[f"worker {site.SECOND} 0"]["starts"] == children["gateway"]["starts"] == 1
    assert any(answer["model"] == site.SECOND or answer["degraded"] for _, answer, _ in seen.answers.values())
    assert site.stop() == 0


@FAULTS
def test_a_gateway_that_is_killed_or_stopped(site, fault: signal.Signals) -> None:
    """The gateway dies or stands still: only requests in flight end unknown, and it is replaced."""
    site.start()
    with site.load(CLIENTS) as seen:
        losses = []
        for _ in range(TIMES):
            site.enough(seen)
            pid = site.pid("gateway")
            made = time.monotonic()
            os.kill(pid, fault)
            site.replaced("gateway", "", pid)
            losses.append((made, time.monotonic()))
        site.enough(seen)
    assert len(seen.unknown) >= TIMES
    check_after_loss(site, seen, losses)
    assert site.stop() == 0


def test_a_supervisor_that_is_killed(site) -> None:
    """When the supervisor is killed its children end with it, and the next one starts on a clean machine."""
    site.start()
    with site.load(CLIENTS) as seen:
        losses = []
        for _ in range(TIMES):
            site.enough(seen)
            roles = [one.pid for one in site.records()]
            made = time.monotonic()
            site.process.kill()
            site.process.wait()
            site.process = None
            site.until(lambda roles=roles: not site.records() and not any(alive(pid) for pid in roles), "all ended")
            site.start()
            losses.append((made, time.monotonic()))
        site.enough(seen)
    check_after_loss(site, seen, losses)
    assert site.stop() == 0


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_supervisor_that_is_stopped(site) -> None:
    """While the supervisor stands still everything serves on, and when it goes on it replaces nobody for nothing."""
    site.start()
    before = {one.pid for one in site.records()}
    with site.load(CLIENTS) as seen:
        for _ in range(TIMES):
            site.process.send_signal(signal.SIGSTOP)
            site.enough(seen, 60)
            site.process.send_signal(signal.SIGCONT)
            site.enough(seen)
    check_exact(site, seen)
    assert {one.pid for one in site.records()} == before
    assert site.stop() == 0


def test_hot_swaps_under_load(site) -> None:
    """Releases under load lose no request: each answer is of one version, exactly, and both versions answered."""
    site.start()
    with site.load(CLIENTS) as seen:
        for version in ("v2", "v1", "v2", "v1", "v2"):
            site.enough(seen)
            site.deploy(site.CHAMPION, version)
            served = wait_until_served(site.project, site.CHAMPION, version, 30.0)
            assert (served.replicas, served.gateways) == (("0",), 1)
        site.enough(seen)
    check_exact(site, seen)
    versions = {answer["version"] for _, answer, _ in seen.answers.values() if answer["model"] == site.CHAMPION}
    assert versions == {"v1", "v2"}
    assert site.stop() == 0


def test_a_clean_stop_answers_what_it_has_taken(site) -> None:
    """Stopping under load ends with exit code 0, with everything that was taken in answered, kept and told."""
    site.start()
    with site.load(CLIENTS) as seen:
        site.enough(seen)
        assert site.stop() == 0
        site.process = None
    found = site.match(seen)
    lists = (found.not_kept, found.not_told, found.kept_twice, found.told_twice, found.kept_only, found.told_only)
    assert not any(lists)
    site.check_answers(seen)
    assert site.records() == []
    assert list((site.project.run_folder / "bus").iterdir()) == []


def test_a_second_signal_stops_hard(site) -> None:
    """A stop that would wait for a child that does not end is cut short by a second signal."""
    site.start()
    os.kill(site.pid("gateway"), signal.SIGSTOP)
    site.process.terminate()
    site.until(lambda: any(one.state == "stopping" for one in site.records()), "it stops")
    site.process.terminate()
    site.process.wait(20)
    assert site.records() == []
    site.process = None


def test_one_rdv_serve_a_project(site) -> None:
    """A second one in the same project is refused, naming the first, and leaves it alone."""
    site.start()
    with pytest.raises(UsageError, match=f"served already, by process {site.process.pid}"):
        serve(site.project)
    site.settled()
    assert site.stop() == 0


@pytest.mark.parametrize("wrong", ["lookup", "schema"])
def test_a_role_that_cannot_run_as_configured_ends_it_all(site, wrong: str, capfd) -> None:
    """What a person has to mend is told once, with its exit code, instead of restarts for ever."""
    settings = site.folder / "rdv.toml"
    if wrong == "schema":
        (site.folder / "total.json").write_text("{")
    else:
        settings.write_text(
            settings.read_text()
            + '[[goals.total.enrich]]\ntable = "gone.csv"\nkey = "a"\n[goals.total.enrich.columns]\nc = "number"\n'
        )
    run: Callable[[], None] = site.start
    with pytest.raises(AssertionError, match="cannot"):
        run()
    assert site.process.wait(20) == 1


@FAULTS
def test_a_decoy_that_is_killed_or_stopped(site, fault: signal.Signals) -> None:
    """The decoy dies or stands still: answers do not notice, and what it missed is what the gateway counts."""
    site.start()
    with site.load(CLIENTS) as seen:
        for _ in range(TIMES):
            site.enough(seen)
            pid = site.pid("decoy")
            os.kill(pid, fault)
            site.replaced("decoy", "", pid)
        site.enough(seen)
    view = site.settled_ledger()
    ledger, decoy = view["goals"][site.GOAL]["ledger"], view["bus"][site.GOAL]["decoy"]
    assert ledger["balances"]
    assert (seen.unknown, seen.refused) == ([], [])
    assert ledger["accepted"] == len(seen.answers) == decoy["answered"] + decoy["skipped"] + decoy["dropped"]
    found = site.match(seen)
    assert len(found.not_kept) <= decoy["skipped"] + decoy["dropped"]
    assert found.kept_twice == found.told_twice == found.kept_only == found.told_only == ()
    assert site.stop() == 0
