"""How gateways of other hosts are noticed: what the catalog says, and what stays while it says nothing."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rdv.addresses import address
from rdv.backends.ports_services import Found, Instance
from rdv.errors import BusError, Unreachable
from rdv.inputs import RowSchema
from rdv.serving.bus.port import Identity
from rdv.serving.certificates import KeptCertificate
from rdv.serving.dial import Dialer, Seat
from rdv.serving.noticing import CatalogGateways
from rdv.supervise import TaskOwner

SERVICE = "dev-shop-gateway"
HANG_S = 20.0
ME = Identity("visit", "champion", "r1", "v1", RowSchema(("age",)))


class Catalog:
    """A catalog whose instances the test sets; `down` makes it unreachable."""

    def __init__(self) -> None:
        self.found, self.down = Found((), 1), False
        self._changed = threading.Condition()

    def set(self, *ports: int) -> None:
        instances = tuple(Instance(id=f"g{port}", host="h", port=port) for port in ports)
        with self._changed:
            self.found, self.down = Found(instances, self.found.index + 1), False
            self._changed.notify_all()

    def fail(self) -> None:
        with self._changed:
            self.down = True
            self._changed.notify_all()

    def find(self, service: str) -> Found:
        assert service == SERVICE
        if self.down:
            raise Unreachable("the catalog does not answer")
        return self.found

    def watch(self, service: str, index: int, wait_s: float) -> Found:
        with self._changed:
            self._changed.wait_for(lambda: self.down or self.found.index != index, 0.5)
        return self.find(service)

    def announce(self, service: str, instance: Instance, ttl_s: float) -> None:
        raise AssertionError

    def withdraw(self, service: str, instance_id: str) -> None:
        raise AssertionError


class Line:
    """A subscription that stands until the test ends it."""

    def __init__(self, gateway: str) -> None:
        self.gateway, self.ended = gateway, asyncio.Event()
        self.announced: list[str] = []

    def announce(self, version: str) -> None:
        self.announced.append(version)

    async def close(self) -> None:
        self.ended.set()


class Gateways(CatalogGateways):
    """Gateways of the catalog that are joined without a network; those in `refusing` cannot be."""

    def __init__(self, catalog: Any) -> None:
        super().__init__(catalog, SERVICE, KeptCertificate(None))
        self.lines: list[Line] = []
        self.refusing: set[str] = set()

    async def _join(self, at: str, identity: Identity) -> Any:
        if at in self.refusing:
            raise Unreachable(f"nobody at {at}")
        self.lines.append(Line(at))
        return self.lines[-1]

    def at(self) -> list[str]:
        """Where lines stand."""
        return sorted(line.gateway for line in self.lines if not line.ended.is_set())


async def serve(line: Any) -> None:
    await line.ended.wait()
    raise BusError("the hub is gone")


def run(scenario: Any, identity: Any = lambda: ME) -> None:
    async def within() -> None:
        catalog = Catalog()
        gateways = Gateways(catalog)
        owner = TaskOwner("worker")
        async with asyncio.timeout(HANG_S), owner:
            dialer = Dialer(owner, gateways, [Seat("champion", identity, serve)])
            dialer.start()
            await scenario(catalog, gateways, dialer)

    asyncio.run(within())


async def until(true: Any) -> None:
    while not true():
        await asyncio.sleep(0.002)


def test_every_gateway_is_dialled() -> None:
    """A worker takes a seat at every gateway that the catalog names, also at those that come later."""

    async def scenario(catalog: Catalog, gateways: Gateways, dialer: Dialer) -> None:
        catalog.set(1, 2)
        await until(lambda: gateways.at() == ["h:1", "h:2"])
        catalog.set(1, 2, 3)
        await until(lambda: gateways.at() == ["h:1", "h:2", "h:3"])
        assert len(gateways.lines) == 3

    run(scenario)


def test_lines_outlive_their_mention() -> None:
    """A line that stands is kept when its gateway is not named any more; once it breaks it is not dialled again."""

    async def scenario(catalog: Catalog, gateways: Gateways, dialer: Dialer) -> None:
        catalog.set(1, 2)
        await until(lambda: len(gateways.at()) == 2)
        catalog.set()
        await asyncio.sleep(0.1)
        assert gateways.at() == ["h:1", "h:2"]
        await gateways.lines[0].close()
        await until(lambda: len(dialer.lines) == 1)
        assert len(gateways.lines) == 2

    run(scenario)


def test_silent_catalog_takes_nothing_away() -> None:
    """While the catalog cannot be asked, gateways last known are dialled again; new ones come when it answers."""

    async def scenario(catalog: Catalog, gateways: Gateways, dialer: Dialer) -> None:
        catalog.set(1)
        await until(lambda: gateways.at() == ["h:1"])
        catalog.fail()
        await asyncio.sleep(0.05)
        gateways.refusing = {"h:1"}
        await gateways.lines[0].close()
        await until(lambda: any("nobody at h:1" in line.refused for line in dialer.lines.values()))
        gateways.refusing = set()
        await until(lambda: gateways.at() == ["h:1"])
        catalog.set(1, 2)
        await until(lambda: gateways.at() == ["h:1", "h:2"])

    run(scenario)


def test_gateway_that_moved_is_dialled_where_it_is() -> None:
    """A gateway that comes back under its name at another port is found there."""

    async def scenario(catalog: Catalog, gateways: Gateways, dialer: Dialer) -> None:
        catalog.set(1)
        await until(lambda: gateways.at() == ["h:1"])
        moved = Instance(id="g1", host="h", port=9)
        catalog.found = Found((moved,), 77)
        catalog.set()
        catalog.found = Found((moved,), 78)
        await gateways.lines[0].close()
        await until(lambda: gateways.at() == ["h:9"])

    run(scenario)


def test_what_changed_while_a_seat_was_taken_is_told() -> None:
    """A version that was swapped in during the welcome is announced; a seat under another name is taken again."""
    told = iter([ME, replace(ME, version="v2"), ME, replace(ME, name="champion@canary")])

    async def scenario(catalog: Catalog, gateways: Gateways, dialer: Dialer) -> None:
        catalog.set(1)
        await until(lambda: gateways.lines and gateways.lines[0].announced == ["v2"])
        await gateways.lines[0].close()
        await until(lambda: len(gateways.lines) == 3)
        assert gateways.lines[1].ended.is_set()
        assert gateways.lines[2].announced == []

    run(scenario, lambda: next(told, ME))


def test_addresses() -> None:
    """An address of the sixth version is written so that its port is told apart."""
    told: Mapping[str, tuple[str, int]] = {"h:1": ("h", 1), "[::1]:2": ("::1", 2)}
    assert [address(*parts) for parts in told.values()] == list(told)
