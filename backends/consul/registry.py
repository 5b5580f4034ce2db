"""A registry in Consul's key-value store.

py-consul does all of it, but for the index rules, of which it knows nothing (`blocking_queries`).
"""

from __future__ import annotations

import random
import time
from contextlib import AbstractContextManager, suppress
from typing import Any

from rdv.backends.blocking_queries import Pace, block_s, next_index
from rdv.backends.consul.client import ConsulClient, parse_place
from rdv.backends.keys import check_key, check_prefix
from rdv.backends.ports import Entry
from rdv.clock import Clock, SystemClock
from rdv.errors import LostRace, RdvError, Unreachable, UsageError

MAX_VALUE_BYTES = 512 * 1024


class ConsulRegistry:
    """Keys below a prefix of Consul's store; safe over threads, processes and forks.

    place: `prefix?address=URL&token_file=PATH&datacenter=NAME`, all optional; what is missing comes from Consul's own
    environment variables. Inside an allocation the token of its own identity is used. Token files are read anew for
    each call, since agents replace them.
    """

    def __init__(self, place: str, clock: Clock | None = None) -> None:
        self._prefix, options = parse_place(place)
        self._clock = clock or SystemClock()
        self._consul = ConsulClient(options)

    def get(self, key: str) -> Entry | None:
        """The newest entry of a key, as the leader has it; None when absent."""
        found = self._read(check_key(key))[1]
        return _entry(found) if found else None

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        """Write a value, if the key's index is `expect` (0: absent, None: whatever it is); else LostRace.

        Should the answer be lost on its way, or be that of a second try within Consul, the key is read to see whether
        the write was done.
        """
        at = self._prefix + check_key(key)
        if len(value) > MAX_VALUE_BYTES:
            raise UsageError(f"the value of {key} has {len(value)} bytes", f"at most {MAX_VALUE_BYTES} are taken")
        # Consul does not tell the index of a write, and takes an equal value for no change: a random mark does both
        mark = random.SystemRandom().getrandbits(63) | 1
        try:
            with self._translated(key):
                done = self._kv().put(at, bytes(value), cas=expect, flags=mark, token=self._consul.token())
        except Unreachable:
            with suppress(RdvError):
                if (found := self._read(key)[1]) and found["Flags"] == mark:
                    return _entry(found)
            raise
        told, found = self._read(key)
        if found and found["Flags"] == mark:
            return _entry(found)
        if not done:
            raise LostRace(f"{key} was changed by somebody else", "look at what is there now, then try again")
        # overwritten already: an index that is this write's or newer, and nobody's who is there now
        return Entry(bytes(value), int(found["ModifyIndex"]) - 1 if found else told)

    def delete(self, key: str, expect: int | None = None) -> None:
        """Remove a key, if its index is `expect`; absent is fine when expect is None or 0."""
        at = self._prefix + check_key(key)
        # what Consul makes of it: index 0 never deletes, and any other one fits a key that is absent
        there = self._read(key)[1] if expect is not None else None
        if expect is not None and (there is None or expect == 0):
            done = there is None and expect == 0
        else:
            with self._translated(key):
                done = self._kv().delete(at, cas=expect, token=self._consul.token())
        if not done:
            raise LostRace(f"{key} was changed by somebody else", "look at what is there now, then try again")

    def list(self, prefix: str) -> dict[str, Entry]:
        """All entries whose key begins with a prefix, sorted by key, as they were at one moment."""
        at = self._prefix + check_prefix(prefix)
        with self._translated(prefix):
            found = self._kv().get(at, recurse=True, consistency="consistent", token=self._consul.token())[1]
        entries = {one["Key"][len(self._prefix) :]: _entry(one) for one in found or ()}
        return dict(sorted(entries.items()))

    def watch(self, key: str, index: int, wait_s: float) -> Entry | None:
        """The key's entry as soon as its index differs from `index` (0 = absent), at the latest after wait_s."""
        check_key(key)
        until, pace, asked = self._clock.monotonic() + wait_s, Pace(), 0
        while True:
            now = self._clock.monotonic()
            told, found = self._read(key, asked, block_s(until - now)) if asked else self._read(key)
            entry = _entry(found) if found else None
            now = self._clock.monotonic()
            if (entry.index if entry else 0) != index or now >= until:
                return entry
            asked = next_index(asked, told)
            time.sleep(max(0.0, min(pace.pause_s(now, random.random()), until - now)))

    def _read(self, key: str, index: int = 0, wait_s: float = 0.0) -> tuple[int, dict[str, Any] | None]:
        blocking = {"index": index, "wait": f"{int(wait_s * 1000) or 1}ms"} if index else {}
        with self._translated(key):
            token = self._consul.token()
            told, found = self._kv().get(self._prefix + key, consistency="consistent", token=token, **blocking)
        return int(told), found

    def _kv(self) -> Any:
        return self._consul.api().kv

    def _translated(self, key: str) -> AbstractContextManager[None]:
        return self._consul.translated(key, self._prefix + key)


def _entry(found: dict[str, Any]) -> Entry:
    return Entry(found["Value"] or b"", int(found["ModifyIndex"]))
