"""A catalog in a folder of this machine: a file an instance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from rdv.backends.catalog_rules import check_announced, check_instance_id, check_service
from rdv.backends.ports_services import Found, Instance
from rdv.clock import Clock, SystemClock
from rdv.errors import NotAuthorised, Unreachable
from rdv.files import make_folders, replace_file, sweep
from rdv.folder_watch import FolderWatch

_SUFFIX = ".json"
# a watch sees a folder that was removed and made again at the latest after this
_RESCAN_S = 1.0
# how long a dead instance's file stays: its owner may only be late, and then writes it anew
_KEPT_DEAD_S = 60.0
# how often the folder may vanish between being made and being watched
_TRIES = 5
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class _Announced(msgspec.Struct, frozen=True):
    """A file's content. until: on the monotonic clock of the machine's start that `boot` names."""

    instance: Instance
    until: float
    boot: str


_read = msgspec.json.Decoder(_Announced)


class FolderCatalog:
    """Instances of this machine, told to all its processes; the folder is made with the first announcement."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self._folder, self._clock = folder, clock or SystemClock()
        self._boot = _BOOT.read_text().strip() if _BOOT.exists() else ""

    def announce(self, service: str, instance: Instance, ttl_s: float) -> None:
        """Have an instance be found for ttl_s from now; readers see the old file or the new one."""
        check_announced(service, instance, ttl_s)
        folder = self._folder / service
        told = _Announced(instance, self._clock.monotonic() + ttl_s, self._boot)
        with self._translated():
            make_folders(folder)
            path = folder / f"{instance.id}{_SUFFIX}"
            replace_file(path, msgspec.json.encode(told), durable=False)  # it is worth nothing after a power cut
            self._tidy(folder)

    def withdraw(self, service: str, instance_id: str) -> None:
        """Remove an instance's file; absent is fine."""
        path = self._folder / check_service(service) / f"{check_instance_id(instance_id)}{_SUFFIX}"
        with self._translated():
            path.unlink(missing_ok=True)

    def find(self, service: str) -> Found:
        """The instances whose time is not over."""
        return self._look(check_service(service))[0]

    def watch(self, service: str, index: int, wait_s: float) -> Found:
        """What is found as soon as its index differs from `index`, at the latest after wait_s."""
        folder, until = self._folder / check_service(service), self._clock.monotonic() + wait_s
        while True:
            with self._changes(folder) as changes:
                found, ends = self._look(service)
                now = self._clock.monotonic()
                if found.index != index or now >= until:
                    return found
                changes.wait(max(0.0, min(until - now, ends - now, _RESCAN_S)))

    def _look(self, service: str) -> tuple[Found, float]:
        """What is found, and when the first of them will be found no more."""
        now = self._clock.monotonic()
        alive = [one for _, one in self._files(self._folder / service) if self._left_s(one, now) > 0]
        return Found.of(one.instance for one in alive), min((one.until for one in alive), default=float("inf"))

    def _files(self, folder: Path) -> Iterator[tuple[Path, _Announced]]:
        with self._translated():
            try:
                paths = [path for path in folder.iterdir() if path.suffix == _SUFFIX]
            except FileNotFoundError:
                return
            for path in paths:
                with suppress(FileNotFoundError, msgspec.DecodeError):  # withdrawn since, or none of ours
                    yield path, _read.decode(path.read_bytes())

    def _left_s(self, one: _Announced, now: float) -> float:
        return one.until - now if one.boot == self._boot else -float("inf")

    def _tidy(self, folder: Path) -> None:
        """Remove what instances left that ended without a word."""
        now = self._clock.monotonic()
        for path, one in self._files(folder):
            if self._left_s(one, now) < -_KEPT_DEAD_S:
                path.unlink(missing_ok=True)
        sweep(folder)

    def _changes(self, folder: Path) -> FolderWatch:
        """What tells of changes in a folder, which is made when it is not there."""
        left = _TRIES
        while True:
            left -= 1
            with self._translated():
                make_folders(folder)
            try:
                return FolderWatch(folder)
            except Unreachable:
                if not left or folder.is_dir():
                    raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise NotAuthorised(f"{self._folder}: {error.strerror}", "check the folder's owner and mode") from error
        except OSError as error:
            raise Unreachable(f"{self._folder}: {error.strerror}", "check the disk") from error
