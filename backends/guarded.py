"""Registries, stores and secrets behind a circuit breaker: while a server is away, nobody waits for it.

What counts as a failure is what may be tried again (`Transient`: unreachable, timed out). A refusal, a lost race or an
absent key is an answer. An adapter's own few tries are below the breaker: they count as one call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rdv.backends.ports import Blobs, Entry, Registry, Secrets
from rdv.breaker import Breaker
from rdv.errors import RdvError, Transient, Unreachable


class Guard:
    """Lets calls through or not, and tells the breaker how they ended."""

    def __init__(self, breaker: Breaker, clock: Callable[[], float] = time.monotonic) -> None:
        self._breaker, self._clock = breaker, clock

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call in a `with` block; Unreachable at once while the breaker is open."""
        breaker, clock = self._breaker, self._clock
        if not breaker.allows(clock):
            raise Unreachable(f"{breaker.name} is left alone for a moment: {breaker.reason}", "it is tried again soon")
        began = clock()
        try:
            yield
        except RdvError as error:
            if isinstance(error, Transient):
                breaker.failed(error.what, clock(), clock() - began)
            else:
                breaker.succeeded()
            raise
        except BaseException:
            breaker.undecided(clock())
            raise
        breaker.succeeded()


class GuardedRegistry:
    """A registry behind a breaker."""

    def __init__(self, inner: Registry, breaker: Breaker, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._guard = inner, Guard(breaker, clock)

    def get(self, key: str) -> Entry | None:
        """The newest entry of a key, None when absent."""
        with self._guard.call():
            return self._inner.get(key)

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        """Write a value and return its new entry; LostRace as the registry says."""
        with self._guard.call():
            return self._inner.put(key, value, expect)

    def delete(self, key: str, expect: int | None = None) -> None:
        """Remove a key."""
        with self._guard.call():
            self._inner.delete(key, expect)

    def list(self, prefix: str) -> dict[str, Entry]:
        """All entries whose key begins with a prefix, sorted by key."""
        with self._guard.call():
            return self._inner.list(prefix)

    def watch(self, key: str, index: int, wait_s: float) -> Entry | None:
        """The key's entry as soon as its index differs from `index`, at the latest after wait_s."""
        with self._guard.call():
            return self._inner.watch(key, index, wait_s)

    def close(self) -> None:
        """Let go of what the registry holds here."""
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


class GuardedSecrets:
    """Secrets behind a breaker."""

    def __init__(self, inner: Secrets, breaker: Breaker, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._guard = inner, Guard(breaker, clock)

    def __repr__(self) -> str:
        return f"GuardedSecrets({self._inner!r})"

    def get(self, name: str) -> str:
        """The value of a secret, by `path/field`."""
        with self._guard.call():
            return self._inner.get(name)


class GuardedBlobs:
    """A store behind a breaker."""

    def __init__(self, inner: Blobs, breaker: Breaker, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._guard = inner, Guard(breaker, clock)

    def put(self, key: str, source: Path) -> None:
        """Store a copy of a file under a key that is absent."""
        with self._guard.call():
            self._inner.put(key, source)

    def create(self, key: str, data: bytes) -> None:
        """Store bytes if and only if the key is absent."""
        with self._guard.call():
            self._inner.create(key, data)

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, None when absent."""
        with self._guard.call():
            return self._inner.read(key)

    def fetch(self, key: str, into: Path) -> Path:
        """A local file with the key's bytes. NotFound when absent."""
        with self._guard.call():
            return self._inner.fetch(key, into)

    def keys(self, prefix: str, skip: str = "") -> Iterator[str]:
        """All keys that begin with a prefix, sorted; a listing counts when it ends, or fails."""
        found = self._inner.keys(prefix, skip)

        def listed() -> Iterator[str]:
            with self._guard.call():
                yield from found

        return listed()

    def delete(self, key: str) -> None:
        """Remove a key; absent is fine."""
        with self._guard.call():
            self._inner.delete(key)

    def unfinished(self, older_than_s: float) -> list[str]:
        """What writers left aside that ended in the middle."""
        with self._guard.call():
            return self._inner.unfinished(older_than_s)

    def discard(self, unfinished: str) -> None:
        """Remove something that `unfinished` told of."""
        with self._guard.call():
            self._inner.discard(unfinished)
