"""One store over two: what is served in one, everything else in the other, told apart by a key's first segment."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

from rdv.backends.keys import check_prefix
from rdv.backends.ports import Blobs

SERVED = frozenset({"train", "@contracts", "@registry"})
"""First segments of keys that belong with the models: models, what restores the registry, what consumers expect."""


class RoutedBlobs:
    """Blobs in two stores that behave as one: each key has one home, and what the other holds under it is not seen."""

    def __init__(self, served: Blobs, rest: Blobs) -> None:
        self._served, self._rest = served, rest

    def put(self, key: str, source: Path) -> None:
        """Store a file's bytes in the key's home; LostRace when the key is there."""
        self._home(key).put(key, source)

    def create(self, key: str, data: bytes) -> None:
        """Store bytes in the key's home if and only if the key is absent; else LostRace."""
        self._home(key).create(key, data)

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, None when its home has none."""
        return self._home(key).read(key)

    def fetch(self, key: str, into: Path) -> Path:
        """A local file with the key's bytes, as its home gives it. NotFound when absent."""
        return self._home(key).fetch(key, into)

    def keys(self, prefix: str, skip: str = "") -> Iterator[str]:
        """All keys that begin with a prefix, sorted; one listing of each store that can hold one."""
        first, slash, _ = check_prefix(prefix).partition("/")
        if slash:
            return self._home(prefix).keys(prefix, skip)
        found = [(self._served, one) for one in sorted(SERVED) if one.startswith(first)] + [(self._rest, prefix)]
        return heapq.merge(*(self._own(store, beginning, skip) for store, beginning in found))

    def delete(self, key: str) -> None:
        """Remove a key from its home; absent is fine."""
        self._home(key).delete(key)

    def unfinished(self, older_than_s: float) -> list[str]:
        """What ended writers left aside in either store, each under the store's number."""
        stores = enumerate((self._served, self._rest))
        return [f"{at}/{one}" for at, store in stores for one in store.unfinished(older_than_s)]

    def discard(self, unfinished: str) -> None:
        """Remove it from its store."""
        at, _, name = unfinished.partition("/")
        (self._served, self._rest)[int(at)].discard(name)

    def _own(self, store: Blobs, prefix: str, skip: str) -> Iterator[str]:
        return (key for key in store.keys(prefix, skip) if self._home(key) is store)

    def _home(self, key: str) -> Blobs:
        return self._served if key.partition("/")[0] in SERVED else self._rest
