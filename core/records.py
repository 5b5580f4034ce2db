"""Registry values: what a version is, which one is current, and what was released when.

Keys: `models/<model>/versions/<version>` (created once), `models/<model>/current` (moved by check-and-set) and
`models/<model>/releases/<serial>` (created once, one a move of the pointer). Values are JSON; none holds a URL, a
host or a credential, and every reader treats them as untrusted input.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from rdv.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


class Version(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published version of a model: the artifact's name within its store, and its digest."""

    model: str
    version: str
    artifact: str
    digest: str
    created: str = ""
    metrics: dict[str, float] = {}
    run: str = ""


class Pointer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `models/<model>/current` says: serve this version; `previous` is where a rollback goes.

    serial: 1 for the first release of the model, one more for each that follows. kind, at, by: of that release, as
    in its row in the log.
    """

    version: str
    previous: str = ""
    serial: int = 1
    kind: str = "deploy"
    at: str = ""
    by: str = ""


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a model's append-only release log. kind: `deploy` or `rollback`. at: UTC, ISO 8601."""

    serial: int
    kind: str
    version: str
    previous: str
    at: str
    by: str = ""


def version_key(model: str, version: str = "") -> str:
    """The registry key of a version; with no version the prefix of all of a model's versions."""
    return f"models/{model}/versions/{version}"


def pointer_key(model: str) -> str:
    """The registry key of a model's pointer."""
    return f"models/{model}/current"


def release_key(model: str, serial: int | None = None) -> str:
    """The registry key of a release; with no serial the prefix of all of them."""
    return f"models/{model}/releases/" + ("" if serial is None else f"{serial:08d}")


def model_key(key: str) -> tuple[str, str]:
    """The model and the kind (`version`, `release`, `pointer`) that a registry key is of; empty for any other key."""
    path = key.removeprefix("models/")
    if path == key:
        return "", ""
    if path.endswith("/current"):
        return path.removesuffix("/current"), "pointer"
    model, _, kind = path.rpartition("/")[0].rpartition("/")
    kinds = {"versions": "version", "releases": "release"}
    return (model, kinds[kind]) if model and kind in kinds else ("", "")


def encode(record: msgspec.Struct) -> bytes:
    """A record as JSON, the same bytes for the same content."""
    return msgspec.json.encode(record, order="sorted")


def decode(kind: type[T], value: bytes, key: str) -> T:
    """A record from a registry value; ConfigError names the key when the value is not one."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"registry key {key} does not hold a {kind.__name__}: {error}", "see `rdv doctor`") from None
