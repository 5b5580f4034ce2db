"""Where a store lies, whatever its keys and options: two environments that name one place hold one store. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

AWS = "aws"


class StorePlace(msgspec.Struct, frozen=True):
    """A folder of a server. servers: all names that it is given, one of them is enough to be the same."""

    scheme: str
    servers: frozenset[str]
    path: tuple[str, ...]

    def holds(self, other: StorePlace) -> bool:
        """Whether everything in the other place lies in this one: it is this one, or a folder in it."""
        same = self.scheme == other.scheme and bool(self.servers & other.servers)
        return same and other.path[: len(self.path)] == self.path


def store_place(scheme: str, place: str, state: Path) -> StorePlace:
    """The place that a setting of an environment with this state folder names; ConfigError when it names none."""
    servers, path = _READERS[scheme](place, state)
    return StorePlace(scheme, frozenset(servers), tuple(part for part in path.split("/") if part))


def _folder(place: str, state: Path) -> tuple[list[str], str]:
    return ["here"], (state / place).resolve().as_posix()


def _s3(place: str, state: Path) -> tuple[list[str], str]:
    from rdv.backends.s3.blobs import parse_place

    bucket, prefix, options = parse_place(place)
    return [_address(options.get("endpoint", AWS))], f"{bucket}/{prefix}"


def _hdfs(place: str, state: Path) -> tuple[list[str], str]:
    from rdv.backends.blobs_hdfs import parse_place

    folder, options = parse_place(place)
    return [_address(one) for one in options["url"].split(";") if one], folder


def _address(url: str) -> str:
    return url.strip().rstrip("/").lower()


_READERS: Mapping[str, Callable[[str, Path], tuple[list[str], str]]] = MappingProxyType(
    {"dir": _folder, "s3": _s3, "hdfs": _hdfs}
)
