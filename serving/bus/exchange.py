"""What every hub does with batches and answers, whatever carries them: queues, credit, expiry, drops, siblings.

No I/O and no clock of its own: an adapter gives it a `Link` per connected replica, the encoding of batches, and tells
it what arrives.
Every row it is given ends exactly once, as answered, skipped, or a counted drop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from rdv.clock import Clock, SystemClock
from rdv.errors import BusError
from rdv.ids import MESSAGE_ID_BYTES
from rdv.inputs import RowSchema
from rdv.serving.bus.codec import MAX_FRAME_BYTES, encode_batch
from rdv.serving.bus.columns import alive, join, part
from rdv.serving.bus.outbox import Encode, Link, Outbox, Parcel, Replica
from rdv.serving.bus.port import Batch, Identity, OnLost, OnScores, Scores, Traffic

MAX_CREDIT = 64
MAX_NAMES = 256
MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """What one hub may hold: rows and bytes a frame; rows a name may have waiting, more for archives; connections.

    archive_s: how long rows for an archive, whom nobody waits for, may wait for company before they travel.
    hello_s: within which a new connection says who it is. linger_s: how long a closing hub waits for answers.
    """

    max_rows: int = 256
    max_frame_bytes: int = MAX_FRAME_BYTES
    waiting_rows: int = 4096
    archive_rows: int = 32768
    archive_s: float = 0.02
    waiting_bytes: int = 64 << 20
    connections: int = 256
    hello_s: float = 5.0
    linger_s: float = 1.0


class Exchange:
    """The part of a hub that is the same for every adapter; see `rdv.serving.bus.port.Hub`."""

    def __init__(
        self,
        on_scores: OnScores,
        on_lost: OnLost = lambda topic, name, ids, reason: None,
        limits: Limits = Limits(),
        clock: Clock = SystemClock(),  # noqa: B008 - stateless
        encode: Encode = encode_batch,
    ) -> None:
        self.limits = limits
        self._on_scores, self._on_lost, self._clock, self._encode = on_scores, on_lost, clock, encode
        self._schemas: dict[str, RowSchema] = {}
        self._names: dict[str, dict[str, Outbox]] = {}
        self._replicas: dict[Link, Replica] = {}
        self._forgotten: set[Outbox] = set()
        self._gone: dict[str, dict[str, Outbox]] = {}
        self._closed = self._sweep_due = False
        self.later: Callable[[float, Callable[[], None]], object] = lambda seconds, call: call()
        self._on_quiet: Callable[[], None] | None = None

    def expect(self, topic: str, schema: RowSchema, names: Sequence[str]) -> None:
        """Declare a topic, its row schema and the names whose rows count even before they subscribe."""
        if self._schemas.setdefault(topic, schema) != schema:
            raise BusError(f"topic {topic} is declared already, with another row schema")
        self._names.setdefault(topic, {})
        for name in names:
            self._forgotten.discard(self._outbox(topic, name))

    def unexpect(self, topic: str, name: str) -> None:
        """Expect a name of a topic no more: rows count for it only while it is subscribed."""
        outbox = self._names.get(topic, {}).get(name)
        if outbox is not None:
            self._forgotten.add(outbox)
            self._let_go(outbox)

    def _outbox(self, topic: str, name: str) -> Outbox:
        """What is kept for a name, which batches are handed to from now on."""
        known = self._names[topic]
        if name not in known:
            there = self._gone.get(topic, {}).pop(name, None)
            known[name] = there or Outbox(topic, name, self._on_lost, self._encode)
        return known[name]

    def _let_go(self, name: Outbox) -> None:
        """Hand batches to a forgotten name no more once nobody is subscribed under it; its counters stay."""
        if name in self._forgotten and not name.replicas:
            self._gone.setdefault(name.topic, {})[name.name] = self._names[name.topic].pop(name.name)

    def publish(self, batch: Batch, names: Collection[str] | None = None) -> None:
        """Hand a batch to every name of its topic, or to these of them; full or absent ones are counted drops."""
        known = self._names.get(batch.topic)
        if known is None:
            raise BusError(f"topic {batch.topic} was never declared", "see Hub.expect")
        chosen = list(known.values()) if names is None else [known[name] for name in names if name in known]
        if batch.n > self.limits.max_rows:
            for start in range(0, batch.n, self.limits.max_rows):
                self.publish(part(batch, start, min(batch.n, start + self.limits.max_rows)), names)
            return
        data = self._encode(batch)
        if len(data) > self.limits.max_frame_bytes:
            if batch.n > 1:
                half = batch.n // 2
                self.publish(part(batch, 0, half), names)
                self.publish(part(batch, half, batch.n), names)
                return
            data = b""
        parcel = Parcel(batch, data)
        for name in chosen:
            name.traffic.published += batch.n
            self._offer(name, parcel)

    def _offer(self, name: Outbox, parcel: Parcel) -> None:
        if self._closed or not parcel.data:
            name.drop(parcel.batch.ids, "closed" if self._closed else "too_large")
            return
        if name.archive:
            self._queue(name, parcel)
            if name.traffic.waiting >= self.limits.max_rows:
                self._feed(name)
            elif not self._sweep_due:
                self._sweep_due = True
                self.later(self.limits.archive_s, self.sweep)
            return
        replica = name.free()
        if replica is not None and not name.waiting:
            name.dispatch(replica, parcel)
        elif name.replicas:
            self._queue(name, parcel)
        else:
            name.drop(parcel.batch.ids, "no_subscriber")

    def _queue(self, name: Outbox, parcel: Parcel) -> None:
        bound = self.limits.archive_rows if name.archive else self.limits.waiting_rows
        if name.traffic.waiting + parcel.n > bound:
            name.purge(self._clock.monotonic())
        room = min(parcel.n, bound - name.traffic.waiting)
        if name.waiting_bytes + len(parcel.data) > self.limits.waiting_bytes:
            room = 0
        if room < parcel.n:
            name.drop(parcel.batch.ids[room * MESSAGE_ID_BYTES :], "queue_full")
            if not room:
                return
            kept = part(parcel.batch, 0, room)
            parcel = Parcel(kept, self._encode(kept))
        name.push(parcel)

    def replicas(self, topic: str) -> list[Identity]:
        """Who is connected now."""
        return [one.identity for one in self._replicas.values() if one.identity.topic == topic]

    def traffic(self) -> dict[tuple[str, str], Traffic]:
        """Counters by (topic, name), rows whose deadline has passed counted as dropped."""
        now = self._clock.monotonic()
        found = {}
        for known in (self._names, self._gone):
            for topic, names in known.items():
                for name in names.values():
                    name.purge(now)
                    found[topic, name.name] = replace(name.traffic, drops=dict(name.traffic.drops))
        return found

    def join(self, identity: Identity, link: Link) -> None:
        """Take a replica in and send it what waits; BusError says why it is refused."""
        self._admit(identity)
        name = self._outbox(identity.topic, identity.name)
        name.archive = identity.archive
        replica = self._replicas[link] = Replica(identity, link, name)
        name.replicas.append(replica)

    def _admit(self, identity: Identity) -> None:
        """Raise BusError unless this identity may join."""
        topic, name = identity.topic, identity.name
        schema = self._schemas.get(topic)
        if self._closed:
            raise BusError("the hub is closing")
        if schema is None:
            raise BusError(f"no topic {topic!r}; topics are {', '.join(sorted(self._schemas)) or 'none'}")
        if not all(0 < len(text) <= MAX_TEXT for text in (name, identity.replica)):
            raise BusError(f"a name or replica is empty or longer than {MAX_TEXT} characters")
        if schema != identity.schema:
            raise BusError(f"{name} expects another row schema than topic {topic} has: {_difference(schema, identity)}")
        if not 1 <= identity.credit <= MAX_CREDIT:
            raise BusError(f"credit {identity.credit} is not within 1..{MAX_CREDIT}")
        if name not in self._names[topic] and len(self._names[topic]) >= MAX_NAMES:
            raise BusError(f"topic {topic} has {MAX_NAMES} names already")
        if len(self._replicas) >= self.limits.connections:
            raise BusError(f"the hub has {len(self._replicas)} subscribers already")
        for one in self.replicas(topic):
            if (one.name, one.replica) == (name, identity.replica):
                raise BusError(f"replica {identity.replica} of {name} on {topic} is connected already")

    def pump(self, link: Link) -> None:
        """Send a replica what waits for its name, as far as its credit allows; unknown links are fine."""
        replica = self._replicas.get(link)
        if replica is None:
            return
        name = replica.name
        while name.waiting and replica.credit:
            parcel = self._next(name)
            if parcel is not None:
                name.dispatch(replica, parcel)

    def _feed(self, name: Outbox) -> None:
        for replica in list(name.replicas):
            self.pump(replica.link)
        name.hungry = bool(name.waiting)

    def sweep(self) -> None:
        """Send archives what waits for them, as far as their credit allows."""
        self._sweep_due = False
        for names in self._names.values():
            for name in names.values():
                if name.archive and name.waiting:
                    self._feed(name)

    def _next(self, name: Outbox) -> Parcel | None:
        """What waits for a name as one frame, None when nobody waits for it any more."""
        taken: list[Parcel] = []
        rows = size = 0
        now = self._clock.monotonic()
        most_bytes = self.limits.max_frame_bytes // 2
        while name.waiting:
            head = name.waiting[0]
            # half: joined strings may take a few bytes more than they took apart
            if taken and (rows + head.n > self.limits.max_rows or size + len(head.data) > most_bytes):
                break
            parcel = name.pop()
            if not name.archive:
                live, expired = alive(parcel.batch, now)
                if expired:
                    name.drop(expired, "expired")
                    if live is None:
                        continue
                    parcel = Parcel(live, self._encode(live))
            taken.append(parcel)
            rows, size = rows + parcel.n, size + len(parcel.data)
        if len(taken) < 2:
            return taken[0] if taken else None
        batch = join([parcel.batch for parcel in taken])
        return Parcel(batch, self._encode(batch))

    def answered(self, link: Link, scores: Scores) -> None:
        """Take a replica's answer to its oldest unanswered frame; BusError when it is none of that frame."""
        replica = self._replicas[link]
        scored = len(scores.ids) // MESSAGE_ID_BYTES
        if not replica.sent or scored + scores.skipped != replica.sent[0][0]:
            expected = f"{replica.sent[0][0]} rows" if replica.sent else "no frame"
            raise BusError(
                f"{replica.identity.name} answered {scored} rows and skipped {scores.skipped} where it had {expected}"
            )
        replica.sent.popleft()
        replica.credit += 1
        traffic = replica.name.traffic
        traffic.in_flight -= scored + scores.skipped
        traffic.answered += scored
        traffic.skipped += scores.skipped
        name = replica.name
        if name.waiting and (not name.archive or name.hungry or self._closed):
            self._feed(name)
        self._on_scores(replica.identity, scores, self._clock.monotonic())
        self._tell_quiet()

    def announced(self, link: Link, version: str) -> None:
        """Note which version a replica serves from now on."""
        replica = self._replicas[link]
        if len(version) > MAX_TEXT:
            raise BusError(f"a version is longer than {MAX_TEXT} characters")
        replica.identity = replace(replica.identity, version=version)

    def left(self, link: Link, reason: str = "disconnected") -> None:
        """Forget a replica; frames that it has not answered are counted as dropped. Unknown links are fine."""
        replica = self._replicas.pop(link, None)
        if replica is None:
            return
        name = replica.name
        name.replicas.remove(replica)
        for n, ids in replica.sent:
            name.traffic.in_flight -= n
            name.drop(ids, reason)
        if not name.replicas and not name.archive:
            name.clear(reason)
        self._let_go(name)
        self._tell_quiet()

    def lose(self, link: Link, reason: str) -> None:
        """Drop the newest frame sent to a replica, as if its name had never taken it; its credit returns."""
        replica = self._replicas[link]
        n, ids = replica.sent.pop()
        replica.credit += 1
        replica.name.traffic.in_flight -= n
        replica.name.drop(ids, reason)

    def quiet(self) -> bool:
        """Whether no row is in flight, nor waiting for somebody who is connected."""
        return not any(one.sent or (one.name.waiting and one.name.replicas) for one in self._replicas.values())

    async def settle(self) -> None:
        """Publish nothing more, take nobody in, wait (at most linger_s) for answers, then count the rest as dropped.

        Afterwards no replica is known any more; the adapter ends their connections.
        """
        self.sweep()
        self._closed = True
        quiet = asyncio.Event()
        self._on_quiet = quiet.set
        self._tell_quiet()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.linger_s):
                await quiet.wait()
        for link in list(self._replicas):
            self.left(link, "closed")
        for names in self._names.values():
            for name in names.values():
                name.clear("closed")

    def _tell_quiet(self) -> None:
        if self._on_quiet is not None and self.quiet():
            on_quiet, self._on_quiet = self._on_quiet, None
            on_quiet()


def _difference(schema: RowSchema, identity: Identity) -> str:
    """The first column in which two row schemas differ, for people."""
    ours = [*schema.numbers, *schema.strings]
    theirs = [*identity.schema.numbers, *identity.schema.strings]
    for our, their in zip(ours, theirs, strict=False):
        if our != their:
            return f"{our!r} against {their!r}"
    if len(ours) != len(theirs):
        return f"{len(ours)} columns against {len(theirs)}"
    return "a column is a number in one and a string in the other"
