"""What has arrived for a subscriber and was not yet received: bounded by its credit."""

from __future__ import annotations

import asyncio

from rdv.errors import BusError
from rdv.serving.bus.port import Batch


class Inbox:
    """Batches in order of arrival; `credit` is how many a hub may send before the first is answered."""

    __slots__ = ("_arrived", "_batches", "_credit", "_ended", "_unanswered")

    def __init__(self, credit: int) -> None:
        self._credit = credit
        self._unanswered = 0
        self._batches: list[Batch] = []
        self._arrived = asyncio.Event()
        self._ended: BusError | None = None

    def put(self, batch: Batch) -> None:
        """Take one batch in; BusError when the hub was granted no credit for it."""
        if self._unanswered >= self._credit:
            raise BusError(f"the hub sent more than the {self._credit} frames that it has credit for")
        self._unanswered += 1
        self._batches.append(batch)
        self._arrived.set()

    def answered(self) -> None:
        """Note that one frame is answered; BusError when none is open, or the hub is gone."""
        if self._ended is not None:
            raise self._ended
        if not self._unanswered - len(self._batches):
            raise BusError("there is no received frame to answer", "send one Scores for each batch received")
        self._unanswered -= 1

    def end(self, error: BusError) -> None:
        """Nothing more will arrive; receive raises this error once it has handed out the rest."""
        if self._ended is None:
            self._ended = error
        self._arrived.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more will arrive."""
        return self._ended is not None

    async def receive(self) -> list[Batch]:
        """All batches that have arrived since the last call, at least one; cancelling it loses nothing."""
        while not self._batches:
            if self._ended is not None:
                raise self._ended
            self._arrived.clear()
            await self._arrived.wait()
        batches, self._batches = self._batches, []
        return batches
