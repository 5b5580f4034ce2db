"""Requests of one modelling goal on their way to the bus: whatever was taken in during one turn travels together."""

from __future__ import annotations

import sys
from array import array
from typing import Any

from rdv.enrich import Enricher
from rdv.errors import ConfigError
from rdv.inputs import RowSchema
from rdv.schema import GoalSchema
from rdv.serving.bus.port import Hub, Requests
from rdv.serving.gateway.mailbox import Mailbox

ENRICH_SHARE = 0.2
"""The part of a goal's budget that its lookups may use."""

if sys.byteorder != "little":
    raise ConfigError("the bus's frames are little-endian, this machine is not", "use the gRPC bus")


class Lane:
    """The waiting batch of one topic, filled column by column."""

    __slots__ = (
        "_accepted_at",
        "_columns",
        "_deadlines",
        "_enricher",
        "_hub",
        "_ids",
        "_marks",
        "_numbers",
        "_pack",
        "_record",
        "_reply_to",
        "_slice_s",
        "_strings",
        "schema",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        reply_to: str,
        hub: Hub,
        schema: RowSchema,
        goal: GoalSchema,
        enricher: Enricher,
        budget_ms: float,
    ) -> None:
        """schema: of the enriched row. goal: of the request."""
        self.topic, self.schema = topic, schema
        self._reply_to, self._hub = reply_to, hub
        self._pack, self._record = goal.row_packer(schema), goal.record
        self._enricher = enricher if len(enricher) else None
        self._slice_s = budget_ms * 1e-3 * ENRICH_SHARE
        self._columns = len(schema.strings)
        self._clear()

    def _clear(self) -> None:
        self._ids: list[bytes] = []
        self._deadlines: list[float] = []
        self._accepted_at: list[float] = []
        self._marks: list[int] = []
        self._numbers: list[bytes] = []
        self._strings: list[tuple[str | None, ...]] = []

    def add(self, box: Mailbox, request: Any) -> None:
        """Put a request into the batch, enriched."""
        numbers, strings = self._pack(request)
        if self._enricher is not None:
            found = self._enricher.add(self._record(request), self._slice_s)
            numbers += array("d", found.numbers).tobytes()
            strings += found.strings
            self._marks.append(found.marks)
        self._ids.append(box.id)
        self._deadlines.append(box.deadline)
        self._accepted_at.append(box.accepted_at)
        self._numbers.append(numbers)
        if self._columns:
            self._strings.append(strings)

    def flush(self) -> None:
        """Publish the batch and begin another; nothing happens when it is empty."""
        n = len(self._ids)
        if not n:
            return
        batch = Requests(
            self.topic,
            self._reply_to,
            n,
            b"".join(self._ids),
            array("d", self._deadlines).tobytes(),
            array("d", self._accepted_at).tobytes(),
            array("Q", self._marks).tobytes() if self._enricher is not None else bytes(8 * n),
            b"".join(self._numbers),
            [list(column) for column in zip(*self._strings, strict=True)],
        )
        self._clear()
        self._hub.publish(batch)

    def probe(self, message_id: bytes, deadline: float, accepted_at: float, names: list[str]) -> None:
        """Send a row of missing values to some models only: no request, nothing that an archive sees."""
        batch = Requests(
            self.topic,
            self._reply_to,
            1,
            message_id,
            array("d", [deadline]).tobytes(),
            array("d", [accepted_at]).tobytes(),
            bytes(8),
            array("d", [float("nan")] * len(self.schema.numbers)).tobytes(),
            [[None] for _ in self.schema.strings],
        )
        self._hub.publish(batch, names)
