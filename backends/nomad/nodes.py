"""The nodes of a cluster, looked at now and then: what they have in all changes seldom."""

from __future__ import annotations

import threading
import time
from typing import Any

from rdv.backends.nomad.api import NomadApi
from rdv.errors import NotAuthorised

_KEPT_S = 15.0


class Nodes:
    """All nodes with what they have. Any thread may call it."""

    def __init__(self, api: NomadApi) -> None:
        self._api, self._guard = api, threading.Lock()
        self._seen: list[dict[str, Any]] | None = None
        self._at: float | None = None

    def all(self) -> list[dict[str, Any]] | None:
        """The nodes, None when this token may not see them."""
        with self._guard:
            if self._at is None or time.monotonic() - self._at > _KEPT_S:
                try:
                    self._seen = self._api.nodes()
                except NotAuthorised:
                    self._seen = None
                self._at = time.monotonic()
            return self._seen
