"""What a hub keeps for one name of a topic: a bounded queue, the replicas that share it, and the counters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from rdv.ids import MESSAGE_ID_BYTES
from rdv.serving.bus.columns import alive
from rdv.serving.bus.port import Batch, Identity, OnLost, Traffic

Encode = Callable[[Batch], bytes]
"""How an adapter writes a batch: once a batch, whoever receives it."""


class Link(Protocol):
    """A connected replica, as its adapter sees it."""

    def send(self, data: bytes) -> None:
        """Hand over one encoded frame; never blocks, never raises."""
        ...


class Parcel:
    """A batch and its frame; data is empty for a single row that no frame may hold."""

    __slots__ = ("batch", "data", "n")

    def __init__(self, batch: Batch, data: bytes) -> None:
        self.batch, self.data, self.n = batch, data, batch.n


class Replica:
    """A connected replica: its credit left, and (rows, ids) of each frame it has not answered, oldest first."""

    __slots__ = ("credit", "identity", "link", "name", "sent")

    def __init__(self, identity: Identity, link: Link, name: Outbox) -> None:
        self.identity, self.link, self.name = identity, link, name
        self.credit = identity.credit
        self.sent: deque[tuple[int, bytes]] = deque()


class Outbox:
    """One name of a topic: its replicas, what waits for them, and its counters.

    hungry: an archive that had no credit left when its rows were due, and is owed them as soon as it has.
    """

    __slots__ = (
        "archive", "encode", "hungry", "lost", "name", "replicas", "topic", "traffic", "waiting", "waiting_bytes",
    )  # fmt: skip

    def __init__(self, topic: str, name: str, lost: OnLost, encode: Encode) -> None:
        self.topic, self.name, self.lost, self.encode = topic, name, lost, encode
        self.archive = self.hungry = False
        self.replicas: list[Replica] = []
        self.waiting: deque[Parcel] = deque()
        self.waiting_bytes = 0
        self.traffic = Traffic()

    def free(self) -> Replica | None:
        """The replica with the most credit left, the longest idle one of equals; None when nobody has any."""
        best = None
        for one in self.replicas:
            if one.credit and (best is None or one.credit > best.credit):
                best = one
        return best

    def dispatch(self, to: Replica, parcel: Parcel) -> None:
        """Send a frame to a replica that has credit."""
        to.credit -= 1
        to.sent.append((parcel.n, parcel.batch.ids))
        self.traffic.in_flight += parcel.n
        if len(self.replicas) > 1:
            self.replicas.remove(to)
            self.replicas.append(to)
        to.link.send(parcel.data)

    def drop(self, ids: bytes, reason: str) -> None:
        """Count rows as dropped and tell who waits for them."""
        n = len(ids) // MESSAGE_ID_BYTES
        self.traffic.dropped += n
        self.traffic.drops[reason] = self.traffic.drops.get(reason, 0) + n
        self.lost(self.topic, self.name, ids, reason)

    def pop(self) -> Parcel:
        """Take what has waited longest out of the queue."""
        parcel = self.waiting.popleft()
        self.waiting_bytes -= len(parcel.data)
        self.traffic.waiting -= parcel.n
        return parcel

    def push(self, parcel: Parcel) -> None:
        """Put something at the queue's end."""
        self.waiting.append(parcel)
        self.waiting_bytes += len(parcel.data)
        self.traffic.waiting += parcel.n

    def purge(self, now: float) -> None:
        """Let rows whose deadline has passed leave the queue, from its head to the first batch without one."""
        while self.waiting and not self.archive:
            live, expired = alive(self.waiting[0].batch, now)
            if not expired:
                return
            self.pop()
            self.drop(expired, "expired")
            if live is not None:
                self.push_back(Parcel(live, self.encode(live)))
                return

    def push_back(self, parcel: Parcel) -> None:
        """Put something at the queue's head again."""
        self.waiting.appendleft(parcel)
        self.waiting_bytes += len(parcel.data)
        self.traffic.waiting += parcel.n

    def clear(self, reason: str) -> None:
        """Drop everything that waits."""
        while self.waiting:
            self.drop(self.pop().batch.ids, reason)
