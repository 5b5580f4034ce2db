"""A registry whose rows are copied into the artifact store, from which `rdv registry rebuild` restores it after a loss.

Copied is what is created once: versions and releases. The registry comes first and the copy after it, so that the
store never tells of what did not happen. A copy that could not be made, because the process died or the store did not
answer, is made with the model's next release or by `rdv registry rebuild`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property

from rdv.backends.ports import Blobs, Entry, Registry
from rdv.errors import LostRace, RdvError, Refused
from rdv.records import Version, decode, model_key, release_key

_logger = logging.getLogger("rdv.registry_log")
_ROWS = ("version", "release")
_REBUILD = "`rdv registry rebuild` shows what is where"


_LOGS = "@registry/"


def logged_environments(blobs: Blobs) -> set[str]:
    """The environments whose rows an artifact store holds copies of, by one listing of these."""
    return {key.split("/")[1] for key in blobs.keys(_LOGS)}


class RegistryLog:
    """The copies of one environment's rows, below `@registry/<environment>/` of its artifact store; create-only."""

    def __init__(self, blobs: Callable[[], Blobs], env: str) -> None:
        self._open, self._prefix = blobs, f"{_LOGS}{env}/"

    def rows(self, prefix: str = "models/") -> dict[str, bytes]:
        """All copied rows whose registry key begins with a prefix, by that key."""
        found = {key: self._blobs.read(key) for key in self._blobs.keys(self._prefix + prefix)}
        return {key.removeprefix(self._prefix): data for key, data in found.items() if data is not None}

    def names(self, prefix: str) -> list[str]:
        """Their registry keys alone, by one listing."""
        return [key.removeprefix(self._prefix) for key in self._blobs.keys(self._prefix + prefix)]

    def add(self, key: str, value: bytes) -> None:
        """Copy a row; LostRace when another one is there under its key."""
        try:
            self._blobs.create(self._prefix + key, value)
        except LostRace:
            there = self._blobs.read(self._prefix + key)
            if there is None or not same_row(key, there, value):
                raise LostRace(f"the artifact store's copy of {key} is another one", _REBUILD) from None

    def remove(self, key: str) -> None:
        """Forget a row; absent is fine."""
        self._blobs.delete(self._prefix + key)

    @cached_property
    def _blobs(self) -> Blobs:
        return self._open()


class LoggedRegistry:
    """A registry and the log of its rows. Everything else goes to the registry as it is."""

    def __init__(self, plain: Registry, log: RegistryLog) -> None:
        self._plain, self._log = plain, log

    def get(self, key: str) -> Entry | None:
        """The newest entry of a key, None when absent."""
        return self._plain.get(key)

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        """Write a value, and its copy when it is a row. A first release is Refused while the log tells of earlier ones.

        Nothing but that depends on the store: while it does not answer, the registry alone is written, with a warning.
        """
        model, kind = model_key(key)
        if kind == "pointer" and expect == 0:
            self._refuse_after_a_loss(model)
        entry = self._plain.put(key, value, expect)
        if kind in _ROWS:
            self._copy(key, value, model, everything=kind == "release")
        return entry

    def delete(self, key: str, expect: int | None = None) -> None:
        """Remove a key; the copy of a row goes first, so that a row that is gone does not come back."""
        if model_key(key)[1] in _ROWS:
            self._log.remove(key)
        self._plain.delete(key, expect)

    def list(self, prefix: str) -> dict[str, Entry]:
        """All entries whose key begins with a prefix, sorted by key."""
        return self._plain.list(prefix)

    def watch(self, key: str, index: int, wait_s: float) -> Entry | None:
        """The key's entry as soon as its index differs from `index`, at the latest after wait_s."""
        return self._plain.watch(key, index, wait_s)

    def close(self) -> None:
        """Let go of what the registry holds here."""
        close = getattr(self._plain, "close", None)
        if close is not None:
            close()

    def _refuse_after_a_loss(self, model: str) -> None:
        told = [key for key in self._log.names(release_key(model)) if model_key(key) == (model, "release")]
        if told:
            raise Refused(
                f"the registry has no release of {model}, the artifact store's log has {len(told)}",
                "restore it first: `rdv registry rebuild`",
            )

    def _copy(self, key: str, value: bytes, model: str, everything: bool) -> None:
        rows = {key: value}
        try:
            if everything:
                rows |= self._uncopied(model)
            for at, data in rows.items():
                self._log.add(at, data)
        except RdvError as error:
            _logger.warning("%s is in the registry and not in the artifact store's log yet: %s", key, error)

    def _uncopied(self, model: str) -> dict[str, bytes]:
        """The model's rows whose copies are missing: a process died, or the store was away."""
        copied = set(self._log.names(f"models/{model}/"))
        entries = self._plain.list(f"models/{model}/")
        return {key: one.value for key, one in entries.items() if model_key(key)[1] in _ROWS and key not in copied}


def same_row(key: str, one: bytes, other: bytes) -> bool:
    """Whether two rows under one key say the same: releases to the byte, versions when they are the same artifact."""
    if one == other or model_key(key)[1] != "version":
        return one == other
    first, second = (decode(Version, data, key) for data in (one, other))
    return (first.artifact, first.digest) == (second.artifact, second.digest)
