"""The catalog in a folder: what its clock says, whose files it clears away, and when a watch looks."""

import os
import threading
from pathlib import Path

import pytest

from rdv.backends.catalog_folder import FolderCatalog
from rdv.backends.ports_services import Found, Instance
from rdv.clock import ManualClock
from rdv.errors import NotAuthorised, Unreachable

SERVICE = "dev-shop-gateway"
ONE = Instance(id="a", host="127.0.0.1", port=1)


def test_time_decides_alone(tmp_path: Path) -> None:
    """An instance is found until its time is over, to the moment, and longer when it spoke again."""
    clock = ManualClock()
    catalog = FolderCatalog(tmp_path, clock)
    catalog.announce(SERVICE, ONE, 10.0)
    clock.advance(9.9)
    assert catalog.find(SERVICE).instances == (ONE,)
    catalog.announce(SERVICE, ONE, 10.0)
    clock.advance(9.9)
    assert catalog.find(SERVICE).instances == (ONE,)
    clock.advance(0.1)
    assert catalog.find(SERVICE) == Found.of(())


def test_an_earlier_start_of_the_machine_counts_for_nothing(tmp_path: Path) -> None:
    """What was announced before the machine started again is dead, whatever its monotonic clock says."""
    catalog = FolderCatalog(tmp_path)
    catalog.announce(SERVICE, ONE, 600.0)
    (file,) = (tmp_path / SERVICE).iterdir()
    told = file.read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in told
    file.write_text(told.replace(boot, "another"))
    assert catalog.find(SERVICE).instances == ()


def test_what_the_dead_left_is_cleared_away(tmp_path: Path) -> None:
    """Files of instances that ended long ago, and of writers that were killed, go with the next announcement."""
    clock = ManualClock()
    catalog = FolderCatalog(tmp_path, clock)
    catalog.announce(SERVICE, ONE, 1.0)
    scratch = tmp_path / SERVICE / ".tmp-0"
    scratch.write_text("half")
    clock.advance(30.0)
    catalog.announce(SERVICE, Instance(id="b", host="h", port=2), 1.0)
    assert sorted(os.listdir(tmp_path / SERVICE)) == ["a.json", "b.json"]
    clock.advance(40.0)
    catalog.announce(SERVICE, Instance(id="c", host="h", port=2), 1.0)
    assert sorted(os.listdir(tmp_path / SERVICE)) == ["b.json", "c.json"]


def test_foreign_files_are_no_instances(tmp_path: Path) -> None:
    """A file that holds no instance is passed over."""
    catalog = FolderCatalog(tmp_path)
    catalog.announce(SERVICE, ONE, 600.0)
    for name, text in (("empty.json", ""), ("other.json", "{}"), ("note.txt", "hello")):
        (tmp_path / SERVICE / name).write_text(text)
    assert catalog.find(SERVICE).instances == (ONE,)


def test_a_watch_outlives_its_folder(tmp_path: Path) -> None:
    """A watch sees who is announced after the folder was removed and made again."""
    catalog, seen = FolderCatalog(tmp_path / "catalog"), list[Found]()
    empty = catalog.find(SERVICE)
    watch = threading.Thread(target=lambda: seen.append(catalog.watch(SERVICE, empty.index, 60.0)))
    watch.start()
    while not (tmp_path / "catalog" / SERVICE).is_dir():
        assert watch.is_alive()
    (tmp_path / "catalog" / SERVICE).rmdir()
    FolderCatalog(tmp_path / "catalog").announce(SERVICE, ONE, 600.0)
    watch.join(60.0)
    assert [found.instances for found in seen] == [(ONE,)]


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """A file in the folder's place is Unreachable; a folder that may not be read is NotAuthorised."""
    (tmp_path / "file").write_text("")
    blocked = FolderCatalog(tmp_path / "file")
    with pytest.raises(Unreachable):
        blocked.announce(SERVICE, ONE, 1.0)
    with pytest.raises(Unreachable):
        blocked.find(SERVICE)
    if os.geteuid():
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o000)
        with pytest.raises(NotAuthorised):
            FolderCatalog(closed).announce(SERVICE, ONE, 1.0)
