"""The contract of the catalog port. A further adapter joins by a class with a `door` fixture of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.ports_services import Catalog, Found, Instance
from rdv.errors import UsageError

HANG_S = 180.0
LONG_S = 600.0
CHILD = """
import importlib, json, sys
from rdv.backends.ports_services import Instance
module, name, arguments, service, first, count = json.loads(sys.argv[1])
from pathlib import Path
arguments = [Path(one) if name == "FolderCatalog" else one for one in arguments]
catalog = getattr(importlib.import_module(module), name)(*arguments)
print("ready", flush=True)
sys.stdin.readline()
for at in range(count):
    meta = {"number": str(at), "text": str(at) * 100}
    catalog.announce(service, Instance(id=first, host="127.0.0.1", port=at % 60000 + 1, meta=meta), 600.0)
    print(at, flush=True)
"""


@dataclass
class Door:
    """How a test reaches a catalog: `open` the port; `service`: a name of the test's own; `entry`: for a process."""

    open: Callable[[], Catalog]
    service: str
    entry: tuple[str, str, list[str]]

    def until(self, true: Callable[[Found], bool], within_s: float = HANG_S) -> Found:
        """What another object finds once something is so: elsewhere it may take a moment."""
        catalog, found, end = self.open(), Found((), 0), time.monotonic() + within_s
        while time.monotonic() < end:
            found = catalog.watch(self.service, found.index, 1.0)
            if true(found):
                return found
        raise AssertionError(f"never so: {found}")

    def start(self, name: str, count: int) -> subprocess.Popen[bytes]:
        """A process that, after a line, announces one instance again and again, each time another one."""
        arguments = json.dumps([*self.entry, self.service, name, count])
        child = subprocess.Popen([sys.executable, "-c", CHILD, arguments], stdin=-1, stdout=-1)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child


def go(child: subprocess.Popen[bytes]) -> None:
    """Let a ready process begin."""
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.flush()


def one(name: str = "a", port: int = 4000, **meta: str) -> Instance:
    """An instance."""
    return Instance(id=name, host="127.0.0.1", port=port, meta=meta)


class CatalogContract:
    """What every catalog promises."""

    @pytest.fixture
    def catalog(self, door: Door) -> Catalog:
        """The catalog under test, without an instance of the test's service."""
        return door.open()

    def test_what_is_announced_is_found_whole(self, door: Door, catalog: Catalog) -> None:
        """Instances are found with all that was told of them, sorted by id; before there were none."""
        assert catalog.find(door.service).instances == ()
        told = [one("b", 1, ops="10.0.0.1:99", url="http://h:1/ä?x=\"y\"", empty=""), one("a", 65535), one("c-d_e.f")]
        for instance in told:
            catalog.announce(door.service, instance, LONG_S)
        found = door.until(lambda found: len(found.instances) == 3)
        assert found.instances == (told[1], told[0], told[2])

    def test_a_second_announcement_replaces_the_first(self, door: Door, catalog: Catalog) -> None:
        """What was said of an id last is what is found, whoever said it."""
        catalog.announce(door.service, one(port=1, version="v1"), LONG_S)
        door.open().announce(door.service, one(port=2), LONG_S)
        catalog.announce(door.service, one(port=3, version="v2"), LONG_S)
        assert door.until(lambda found: found.instances[:1] == (one(port=3, version="v2"),))

    def test_services_do_not_mix(self, door: Door, catalog: Catalog) -> None:
        """An instance is found under its service's name only, also when names begin alike or ids are the same."""
        for name, port in ((door.service, 1), (f"{door.service}-2", 2)):
            catalog.announce(name, one(port=port), LONG_S)
        assert door.until(lambda found: bool(found.instances)).instances == (one(port=1),)
        catalog.withdraw(f"{door.service}-2", "a")
        assert door.until(lambda found: bool(found.instances)).instances == (one(port=1),)

    def test_who_is_withdrawn_is_gone(self, door: Door, catalog: Catalog) -> None:
        """A withdrawn instance is found no more, whoever withdraws it; one that is absent is fine."""
        catalog.withdraw(door.service, "a")
        for name in "ab":
            catalog.announce(door.service, one(name), LONG_S)
        door.until(lambda found: len(found.instances) == 2)
        door.open().withdraw(door.service, "a")
        assert door.until(lambda found: len(found.instances) == 1).instances == (one("b"),)
        catalog.announce(door.service, one("a"), LONG_S)
        assert door.until(lambda found: len(found.instances) == 2)

    def test_who_is_silent_is_dead(self, door: Door, catalog: Catalog) -> None:
        """An instance that is not announced again within its time is found no more, and is once it is."""
        catalog.announce(door.service, one("silent"), 1.5)
        began = time.monotonic()
        catalog.announce(door.service, one("other"), LONG_S)
        door.until(lambda found: len(found.instances) == 2)
        door.until(lambda found: found.instances == (one("other"),))
        assert time.monotonic() - began >= 1.4
        catalog.announce(door.service, one("silent"), LONG_S)
        assert door.until(lambda found: len(found.instances) == 2)

    def test_who_speaks_lives_on(self, door: Door, catalog: Catalog) -> None:
        """An instance that is announced in time is found without a gap, and that is no change."""
        catalog.announce(door.service, one(), 5.0)
        first = door.until(lambda found: bool(found.instances))
        end, stop = time.monotonic() + 7.0, threading.Event()

        def speak() -> None:
            while not stop.wait(0.5):
                catalog.announce(door.service, one(), 5.0)

        speaker = threading.Thread(target=speak)
        speaker.start()
        try:
            while (left := end - time.monotonic()) > 0:
                assert door.open().watch(door.service, first.index, left) == first
        finally:
            stop.set()
            speaker.join()

    def test_the_index_is_that_of_what_is_found(self, door: Door, catalog: Catalog) -> None:
        """Two looks have the same index if and only if they found the same; it is above 0."""
        empty = catalog.find(door.service)
        catalog.announce(door.service, one(version="1"), LONG_S)
        first = door.until(lambda found: bool(found.instances))
        assert door.open().find(door.service) == first
        catalog.announce(door.service, one(version="2"), LONG_S)
        second = door.until(lambda found: found.index != first.index and bool(found.instances))
        catalog.withdraw(door.service, "a")
        last = door.until(lambda found: not found.instances)
        assert last == empty
        assert 0 < len({empty.index, first.index, second.index}) == 3
        assert min(empty.index, first.index, second.index) > 0

    @pytest.mark.parametrize("change", ["new", "changed", "withdrawn", "silent"])
    def test_watch_wakes_on_a_change(self, door: Door, catalog: Catalog, change: str) -> None:
        """A change of any kind, made through another object, ends a watch; changes of other services do not."""
        if change != "new":
            catalog.announce(door.service, one(), 4.0 if change == "silent" else LONG_S)
        before = door.until(lambda found: bool(found.instances) == (change != "new"))
        seen: list[Found] = []
        watch = threading.Thread(target=lambda: seen.append(door.open().watch(door.service, before.index, HANG_S)))
        began = time.monotonic()
        watch.start()
        other = door.open()
        for at in range(3):
            other.announce(f"{door.service}-2", one(port=at + 1), LONG_S)
        watch.join(0.1)
        assert watch.is_alive()
        if change == "withdrawn":
            other.withdraw(door.service, "a")
        elif change != "silent":
            other.announce(door.service, one(port=9), LONG_S)
        watch.join(HANG_S)
        after = {"new": (one(port=9),), "changed": (one(port=9),)}.get(change, ())
        assert [found.instances for found in seen] == [after]
        assert time.monotonic() - began < HANG_S / 2

    def test_watch_returns_at_once_what_is_new(self, door: Door, catalog: Catalog) -> None:
        """A watch that knows nothing, or an old index, returns what is there."""
        empty = catalog.find(door.service)
        assert catalog.watch(door.service, 0, HANG_S) == empty
        catalog.announce(door.service, one(), LONG_S)
        assert door.until(lambda found: bool(found.instances)) == catalog.watch(door.service, empty.index, HANG_S)

    def test_watch_ends_when_its_time_is_over(self, door: Door, catalog: Catalog) -> None:
        """A watch on a service that does not change returns what it knows when its time is over."""
        found, begun = catalog.find(door.service), time.monotonic()
        assert catalog.watch(door.service, found.index, 0.3) == found
        assert 0.3 <= time.monotonic() - begun < HANG_S / 2
        assert catalog.watch(door.service, found.index, 0.0) == found

    def test_readers_see_whole_instances(self, door: Door, catalog: Catalog) -> None:
        """While a process announces ever another instance, and is killed at it, every look finds a whole one."""
        child = door.start("a", 100_000)
        go(child)
        assert child.stdout.readline() == b"0\n"
        for at in range(60):
            found = catalog.find(door.service)
            for instance in found.instances:
                assert instance.meta == {"number": str(instance.port - 1), "text": str(instance.port - 1) * 100}
            if at == 40:
                child.kill()
                child.communicate()
        assert len(door.until(lambda found: bool(found.instances)).instances) == 1

    def test_many_announce_at_once(self, door: Door, catalog: Catalog) -> None:
        """Of several processes and threads that announce at once, each one's instance is found."""
        children = [door.start(f"p{at}", 5) for at in range(3)]
        for child in children:
            go(child)
        threads = [
            threading.Thread(target=catalog.announce, args=(door.service, one(f"t{at}"), LONG_S)) for at in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_S)
        for child in children:
            child.communicate(timeout=HANG_S)
        found = door.until(lambda found: len(found.instances) == 7)
        assert [instance.id for instance in found.instances] == ["p0", "p1", "p2", "t0", "t1", "t2", "t3"]

    def test_it_survives_a_fork(self, door: Door, catalog: Catalog) -> None:
        """A forked child uses the object it inherited, and the parent's goes on working."""
        catalog.announce(door.service, one("parent"), LONG_S)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                catalog.announce(door.service, one("child"), LONG_S)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        catalog.announce(door.service, one("parent"), LONG_S)
        assert door.until(lambda found: len(found.instances) == 2)

    @pytest.mark.parametrize("service", ["", "A", "a_b", "-a", "a-", "a/b", "..", "a" * 64, "ä", "a b"])
    def test_names_outside_the_alphabet_are_refused(self, catalog: Catalog, service: str) -> None:
        """Every method refuses a service's name that some catalog could not hold."""
        for call in (
            lambda: catalog.announce(service, one(), 1.0),
            lambda: catalog.withdraw(service, "a"),
            lambda: catalog.find(service),
            lambda: catalog.watch(service, 0, 0.0),
        ):
            with pytest.raises(UsageError):
                call()

    @pytest.mark.parametrize(
        ("instance", "ttl_s"),
        [
            (one(""), 1.0),
            (one("../a"), 1.0),
            (one(".a"), 1.0),
            (one(port=0), 1.0),
            (one(port=65536), 1.0),
            (Instance(id="a", host="", port=1), 1.0),
            (one(), 0.0),
            (one(), float("inf")),
            (Instance(id="a", host="h", port=1, meta={"instance": "b"}), 1.0),
            (one(big="x" * 513), 1.0),
            (Instance(id="a", host="h", port=1, meta={"a b": ""}), 1.0),
            (Instance(id="a", host="h", port=1, meta={str(at): "" for at in range(33)}), 1.0),
        ],
    )
    def test_what_no_catalog_can_hold_is_refused(
        self, door: Door, catalog: Catalog, instance: Instance, ttl_s: float
    ) -> None:
        """An instance without an address, with an odd id or with too much to tell is refused, and not found."""
        with pytest.raises(UsageError):
            catalog.announce(door.service, instance, ttl_s)
        assert catalog.find(door.service).instances == ()


class TestFolder(CatalogContract):
    """The embedded catalog: a folder of this machine."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Door:
        """A folder that does not exist yet."""
        from rdv.backends.catalog_folder import FolderCatalog

        folder = tmp_path / "run" / "catalog"
        entry = ("rdv.backends.catalog_folder", "FolderCatalog", [str(folder)])
        return Door(lambda: FolderCatalog(folder), "dev-shop-gateway", entry)


@pytest.mark.live
class TestConsul(CatalogContract):
    """A Consul agent, with names that begin with a prefix of the test's own."""

    @pytest.fixture
    def door(self, consul_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
        """A name that nobody used before, and a token that may announce names that begin with it and nothing else."""
        from rdv.backends.consul.catalog import ConsulCatalog
        from rdv.ids import short_id

        for name in [name for name in os.environ if name.startswith("CONSUL_")]:
            monkeypatch.delenv(name)
        prefix, token = f"t{short_id()}", tmp_path / "token"
        rules = f'service_prefix "{prefix}-" {{ policy = "write" }} node_prefix "" {{ policy = "read" }}'
        token.write_text(consul_server.new_token(prefix, rules))
        place = f"{prefix}?address={consul_server.address}&token_file={token}"
        entry = ("rdv.backends.consul.catalog", "ConsulCatalog", [place])
        return Door(lambda: ConsulCatalog(place), f"{prefix}-shop-gateway", entry)
