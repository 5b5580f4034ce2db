"""A registry in Consul's key-value store.

py-consul does all of it; two of its habits are worked around here: the token of the environment beats one given to its
constructor (so a token of ours goes with each call), and it knows nothing of the index rules (`consul_watch`).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import consul
import requests
from consul.exceptions import BadRequest, ClientError

from rdv.backends.allocation import own_token
from rdv.backends.consul_watch import Pace, block_s, next_index
from rdv.backends.keys import check_key, check_prefix
from rdv.backends.ports import Entry
from rdv.clock import Clock, SystemClock
from rdv.errors import ConfigError, LostRace, NotAuthorised, RdvError, Unreachable, UsageError

MAX_VALUE_BYTES = 512 * 1024
_ANSWER_S = 5.0
_OPTIONS = {"address", "token_file", "datacenter"}
_TOKEN_HINT = "set CONSUL_HTTP_TOKEN, or name a file in the place: ?token_file=PATH"


class ConsulRegistry:
    """Keys below a prefix of Consul's store; safe over threads, processes and forks.

    place: `prefix?address=URL&token_file=PATH&datacenter=NAME`, all optional; what is missing comes from Consul's own
    environment variables. Inside an allocation the token of its own identity is used. Token files are read anew for
    each call, since agents replace them.
    """

    def __init__(self, place: str, clock: Clock | None = None) -> None:
        self._prefix, self._options = parse_place(place)
        self._clock = clock or SystemClock()
        self._pid, self._client = os.getpid(), _new_client(self._options)
        self._where = f"Consul at {self._client.http.base_uri}"

    def get(self, key: str) -> Entry | None:
        """The newest entry of a key, as the leader has it; None when absent."""
        found = self._read(check_key(key))[1]
        return _entry(found) if found else None

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        """Write a value, if the key's index is `expect` (0: absent, None: whatever it is); else LostRace.

        Should the answer be lost on its way, the key is read to see whether the write was done.
        """
        at = self._prefix + check_key(key)
        if len(value) > MAX_VALUE_BYTES:
            raise UsageError(f"the value of {key} has {len(value)} bytes", f"at most {MAX_VALUE_BYTES} are taken")
        # Consul does not tell the index of a write, and takes an equal value for no change: a random mark does both
        mark = random.SystemRandom().getrandbits(63) | 1
        try:
            with self._translated(key):
                done = self._kv().put(at, bytes(value), cas=expect, flags=mark, token=self._token())
        except Unreachable:
            with suppress(RdvError):
                if (found := self._read(key)[1]) and found["Flags"] == mark:
                    return _entry(found)
            raise
        if not done:
            raise LostRace(f"{key} was changed by somebody else", "look at what is there now, then try again")
        told, found = self._read(key)
        if found and found["Flags"] == mark:
            return _entry(found)
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
                done = self._kv().delete(at, cas=expect, token=self._token())
        if not done:
            raise LostRace(f"{key} was changed by somebody else", "look at what is there now, then try again")

    def list(self, prefix: str) -> dict[str, Entry]:
        """All entries whose key begins with a prefix, sorted by key, as they were at one moment."""
        at = self._prefix + check_prefix(prefix)
        with self._translated(prefix):
            found = self._kv().get(at, recurse=True, consistency="consistent", token=self._token())[1]
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
            token = self._token()
            told, found = self._kv().get(self._prefix + key, consistency="consistent", token=token, **blocking)
        return int(told), found

    def _kv(self) -> Any:
        if self._pid != os.getpid():  # connections of the parent process are not ours to use
            self._pid, self._client = os.getpid(), _new_client(self._options)
        return self._client.kv

    def _token(self) -> str | None:
        if own := own_token("consul"):
            return own
        path = self._options.get("token_file")
        try:
            return Path(path).read_text().strip() if path else None
        except OSError as error:
            raise NotAuthorised(f"the token file {path} cannot be read: {error.strerror}", _TOKEN_HINT) from error

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as error:
            kind = type(error).__name__
            raise Unreachable(f"{self._where} does not answer ({kind})", "check the address and the agent") from error
        except (consul.ACLPermissionDenied, consul.ACLDisabled) as error:
            raise NotAuthorised(f"{self._where} refused {self._prefix}{key}", _TOKEN_HINT) from error
        except (BadRequest, ClientError) as error:
            raise RdvError(f"{self._where} refused {key or 'the listing'}: {error}", "see its log") from error
        except consul.ConsulException as error:
            raise Unreachable(f"{self._where} cannot serve {key or 'the listing'} now: {error}", "try again") from error


def parse_place(place: str) -> tuple[str, dict[str, str]]:
    """Prefix (empty or ending in `/`) and options of a place; ConfigError when it is none."""
    prefix, _, query = place.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if set(options) - _OPTIONS:
        hint = "write consul:prefix?address=URL&token_file=PATH&datacenter=NAME, all optional"
        raise ConfigError(f"{place!r} is not a place in Consul", hint)
    prefix = prefix.strip("/")
    return check_key(prefix) + "/" if prefix else "", options


def _new_client(options: dict[str, str]) -> Any:
    host = port = scheme = None
    if address := options.get("address"):
        try:
            parts = urlsplit(address)
            host, port, scheme = parts.hostname, parts.port or (443 if parts.scheme == "https" else 8500), parts.scheme
        except ValueError:
            pass
        if not host or scheme not in ("http", "https"):
            raise ConfigError(f"{address!r} is no address of Consul", "write it as http://host:8500")
    try:
        return consul.Consul(
            host=host, port=port, scheme=scheme, dc=options.get("datacenter"), connections_timeout=_ANSWER_S
        )
    except consul.ConsulException as error:
        raise ConfigError(f"Consul's environment variables are wrong: {error}", "see CONSUL_HTTP_ADDR") from error


def _entry(found: dict[str, Any]) -> Entry:
    return Entry(found["Value"] or b"", int(found["ModifyIndex"]))
