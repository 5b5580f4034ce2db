"""The bus: how requests reach the models of a modelling goal, and how their scores come back.

The gateway holds the `Hub`, every worker replica, decoy and recorder holds one `Subscription` a gateway. A topic
is a modelling goal (`goal` or `goal/modelling_goal`) for requests, `goal/events` for events. Every *name*
subscribed to a topic receives every batch; replicas that share a name share its batches.

Credit counts frames: a replica that was sent `credit` frames it has not answered is sent no more. What waits
for credit stays in the hub, in one bounded queue a name, and travels as one frame when credit returns; rows whose
deadline has passed leave the queue. So a stopped replica holds at most `credit` frames of `max_rows` rows, and
what it does not hold goes to its siblings. Every row ends exactly once as answered, skipped, or a counted drop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rdv.inputs import RowSchema

NO_DEADLINE = float("inf")


@dataclass(slots=True)
class Requests:
    """A batch of enriched requests, columns side by side; n rows.

    ids: n * 16 bytes. deadlines: n little-endian doubles, CLOCK_MONOTONIC seconds. accepted_at: n doubles, epoch
    seconds. marks: n unsigned 64-bit words, two bits a lookup of the enricher: 0 hit, 1 missed, 2 late.
    numbers: n * k doubles, row-major. strings: one list of n values a string column. reply_to: the return address,
    the gateway's instance id.
    """

    topic: str
    reply_to: str
    n: int
    ids: bytes
    deadlines: bytes
    accepted_at: bytes
    marks: bytes
    numbers: bytes
    strings: Sequence[Sequence[str | None]] = ()


@dataclass(slots=True)
class Events:
    """A batch of event records (see `rdv.serving.recording.events`), each one msgpack document; n >= 1."""

    topic: str
    reply_to: str
    ids: bytes
    records: Sequence[bytes]

    @property
    def n(self) -> int:
        """How many records there are."""
        return len(self.records)


Batch = Requests | Events


@dataclass(slots=True)
class Scores:
    """One replica's answer to one frame: exactly one for every frame it received, which returns the frame's credit.

    ids: n * 16 bytes of the rows that were scored; values: n * width doubles, NaN where the model had no usable
    answer. skipped: rows left out because their deadline had passed. queue_s: from the frame's arrival to the start
    of evaluation; eval_s: the evaluation. version: the one version that scored the whole frame.
    """

    reply_to: str
    version: str
    ids: bytes
    values: bytes
    width: int
    skipped: int = 0
    queue_s: float = 0.0
    eval_s: float = 0.0


@dataclass(slots=True, frozen=True)
class Identity:
    """Who subscribes: name is the model's (or `decoy`, `recorder`), replica unique below it.

    schema: the row schema the subscriber expects; the hub refuses another one than its topic's. version: what it
    serves now; `announce` changes it. credit: frames it will hold. archive: it wants rows whose deadline has passed.
    """

    topic: str
    name: str
    replica: str
    version: str
    schema: RowSchema = RowSchema()
    credit: int = 2
    archive: bool = False


@dataclass(slots=True)
class Traffic:
    """What a hub did for one name on one topic, in rows, since it opened.

    published = answered + skipped + dropped + waiting + in_flight, at every moment. drops: dropped rows by reason
    (`no_subscriber` once a name has ever subscribed, `queue_full`, `expired`, `disconnected`, `too_large`,
    `closed`, and `fault` where a test asks for it).
    """

    published: int = 0
    answered: int = 0
    skipped: int = 0
    dropped: int = 0
    waiting: int = 0
    in_flight: int = 0
    drops: dict[str, int] = field(default_factory=dict)


OnScores = Callable[[Identity, Scores, float], None]
"""Called in the hub's loop with the replica as it was when it answered, its scores, and CLOCK_MONOTONIC now."""

OnLost = Callable[[str, str, bytes, str], None]
"""Called in the hub's loop with a topic, a name, the ids (n * 16 bytes) this name will not score, and the reason."""


class Hub(Protocol):
    """The gateway's end. All calls from its event loop; none blocks."""

    def expect(self, topic: str, schema: RowSchema, names: Sequence[str]) -> None:
        """Declare a topic, its row schema and the names whose rows count even before they subscribe."""
        ...

    def unexpect(self, topic: str, name: str) -> None:
        """Expect a name of a topic no more: rows count for it only while it is subscribed."""
        ...

    def publish(self, batch: Batch, names: Collection[str] | None = None) -> None:
        """Hand a batch to every name of its topic; full or absent ones are counted drops, never an error.

        names: only to these of them (a probe that no archive shall see).
        """
        ...

    def replicas(self, topic: str) -> list[Identity]:
        """Who is connected now."""
        ...

    def traffic(self) -> dict[tuple[str, str], Traffic]:
        """Counters by (topic, name)."""
        ...

    async def close(self) -> None:
        """Send what is waiting as far as credit allows, then disconnect everybody."""
        ...


class Subscription(Protocol):
    """A subscriber's end."""

    async def receive(self) -> list[Batch]:
        """All frames that have arrived since the last call, at least one; waits for the first. Raises BusError

        when the hub is gone (reconnecting is the caller's decision). Cancelling loses nothing.
        """
        ...

    def send(self, scores: Scores) -> None:
        """Answer one received frame; answers go in the order in which frames were received."""
        ...

    def announce(self, version: str) -> None:
        """Tell the hub which version is served from now on."""
        ...

    async def close(self) -> None:
        """Leave; frames not answered are counted as dropped (`disconnected`)."""
        ...
