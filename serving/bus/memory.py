"""The bus within one process: the same codec, bounds and refusals as between processes, and faults on demand."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from rdv.clock import Clock, SystemClock
from rdv.errors import BusError
from rdv.serving.bus import codec
from rdv.serving.bus.exchange import Exchange, Limits
from rdv.serving.bus.inbox import Inbox
from rdv.serving.bus.port import Batch, Identity, OnLost, OnScores, Scores


@dataclass(slots=True)
class Faults:
    """What shall go wrong: the share of frames that get lost on their way to a replica, the delay of the others."""

    drop: float = 0.0
    delay_s: float = 0.0
    seed: int = 0


class MemoryHub(Exchange):
    """A hub whose subscribers live in its own event loop."""

    def __init__(
        self,
        on_scores: OnScores,
        on_lost: OnLost = lambda topic, name, ids, reason: None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        clock: Clock = SystemClock(),  # noqa: B008 - stateless
        faults: Faults | None = None,
    ) -> None:
        super().__init__(on_scores, on_lost, limits, clock)
        self.faults = faults or Faults()
        self.random = random.Random(self.faults.seed)
        self._wires: list[_Wire] = []

    async def subscribe(self, identity: Identity) -> MemorySubscription:
        """Join under an identity; BusError says why it is refused."""
        identity = codec.decode_hello(codec.encode_hello(identity)[codec.HEADER.size :])
        wire = _Wire(self, Inbox(identity.credit))
        self.later = asyncio.get_running_loop().call_later
        self.join(identity, wire)
        self._wires.append(wire)
        self.pump(wire)
        return MemorySubscription(wire)

    def forget(self, wire: _Wire, reason: BusError) -> None:
        """Part with a subscriber that leaves or is refused."""
        if wire in self._wires:
            self._wires.remove(wire)
        self.left(wire)
        wire.inbox.end(reason)

    async def close(self) -> None:
        """Send what is waiting as far as credit allows, then disconnect everybody."""
        await self.settle()
        for wire in list(self._wires):
            self.forget(wire, BusError("the hub is closed"))


class _Wire:
    """Both directions between the hub and one subscriber; all that travels is bytes."""

    def __init__(self, hub: MemoryHub, inbox: Inbox) -> None:
        self.hub, self.inbox = hub, inbox
        self._loop = asyncio.get_running_loop()

    def send(self, data: bytes) -> None:
        """Bring one frame to the subscriber, unless the fault knobs say otherwise."""
        faults = self.hub.faults
        if faults.drop and self.hub.random.random() < faults.drop:
            self.hub.lose(self, "fault")
        elif faults.delay_s:
            self._loop.call_later(faults.delay_s, self._arrive, data)
        else:
            self._arrive(data)

    def _arrive(self, data: bytes) -> None:
        if not self.inbox.ended:
            self.inbox.put(codec.decode_batch(data[codec.HEADER.size - 1], data[codec.HEADER.size :]))

    def reply(self, data: bytes) -> None:
        """Bring one frame to the hub, in a later turn of the loop."""
        self._loop.call_soon(self._replied, data)

    def _replied(self, data: bytes) -> None:
        if self.inbox.ended:
            return
        kind, payload = data[codec.HEADER.size - 1], data[codec.HEADER.size :]
        try:
            if kind == codec.SCORES:
                self.hub.answered(self, codec.decode_scores(payload))
            else:
                self.hub.announced(self, codec.decode_text(payload))
        except BusError as error:
            self.hub.forget(self, error)


class MemorySubscription:
    """A subscriber's end of a MemoryHub."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    async def receive(self) -> list[Batch]:
        """All frames that have arrived since the last call, at least one; BusError when the hub is gone."""
        return await self._wire.inbox.receive()

    def send(self, scores: Scores) -> None:
        """Answer one received frame."""
        self._wire.inbox.answered()
        self._wire.reply(codec.encode_scores(scores))

    def announce(self, version: str) -> None:
        """Tell the hub which version is served from now on."""
        self._wire.reply(codec.encode_text(codec.ANNOUNCE, version))

    async def close(self) -> None:
        """Leave; frames not answered are counted as dropped (`disconnected`)."""
        left = asyncio.Event()

        def leave() -> None:
            self._wire.hub.forget(self._wire, BusError("this subscription is closed"))
            left.set()

        asyncio.get_running_loop().call_soon(leave)
        await left.wait()
