"""The hub's own rules, driven by a state machine on a clock that stands still."""

import struct
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rdv.clock import ManualClock
from rdv.inputs import RowSchema
from rdv.serving.bus import codec
from rdv.serving.bus.exchange import Exchange, Limits
from rdv.serving.bus.port import Identity, Requests, Scores

TOPIC, NAMES = "visit", ("champion", "challenger", "decoy")
LIMITS = Limits(max_rows=6, waiting_rows=9, archive_rows=14)


class Link:
    """A replica that keeps what it was sent until the machine lets it answer."""

    def __init__(self, name: str, credit: int) -> None:
        self.name, self.credit = name, credit
        self.frames: deque[Requests] = deque()

    def send(self, data: bytes) -> None:
        batch = codec.decode_batch(data[4], data[5:])
        assert isinstance(batch, Requests)
        self.frames.append(batch)


class ExchangeMachine(RuleBasedStateMachine):
    """Publishes, answers, leaves and lets time pass in any order; every row must end exactly once for each name."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.ended: dict[str, list[bytes]] = {name: [] for name in NAMES}
        self.published: list[bytes] = []
        self.deadlines: dict[bytes, float] = {}
        self.links: list[Link] = []
        self.hub = Exchange(self._scored, self._lost, LIMITS, self.clock)
        self.hub.expect(TOPIC, RowSchema(("n",)), NAMES)

    def _scored(self, identity: Identity, scores: Scores, now: float) -> None:
        self._end(identity.name, scores.ids)

    def _lost(self, topic: str, name: str, ids: bytes, reason: str) -> None:
        if reason == "expired":
            assert name != "decoy"
            assert all(self.deadlines[ids[at : at + 16]] <= self.clock.monotonic() for at in range(0, len(ids), 16))
        self._end(name, ids)

    def _end(self, name: str, ids: bytes) -> None:
        self.ended[name] += [ids[at : at + 16] for at in range(0, len(ids), 16)]

    @rule(budgets=st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=1, max_size=15))
    def publish(self, budgets: list[float]) -> None:
        n, first = len(budgets), len(self.published)
        ids = [(first + at).to_bytes(16, "big") for at in range(n)]
        deadlines = [self.clock.monotonic() + budget for budget in budgets]
        self.published += ids
        self.deadlines.update(zip(ids, deadlines, strict=True))
        column = struct.pack(f"<{n}d", *deadlines)
        self.hub.publish(Requests(TOPIC, "gw", n, b"".join(ids), column, column, column, column))

    @rule(name=st.sampled_from(NAMES), credit=st.integers(1, 3))
    def arrive(self, name: str, credit: int) -> None:
        link = Link(name, credit)
        identity = Identity(TOPIC, name, f"r{id(link)}", "v", RowSchema(("n",)), credit, archive=name == "decoy")
        self.hub.join(identity, link)
        self.hub.pump(link)
        self.links.append(link)

    @precondition(lambda self: any(link.frames for link in self.links))
    @rule(data=st.data(), skip=st.booleans())
    def answer(self, data: st.DataObject, skip: bool) -> None:
        link = data.draw(st.sampled_from([one for one in self.links if one.frames]))
        batch = link.frames.popleft()
        scored = batch.n // 2 if skip else batch.n
        if skip:
            self._end(link.name, batch.ids[16 * scored :])
        self.hub.answered(link, Scores("gw", "v", batch.ids[: 16 * scored], bytes(8 * scored), 1, batch.n - scored))

    @precondition(lambda self: bool(self.links))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.links))
        self.links.remove(link)
        self.hub.left(link)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def every_row_is_accounted_for(self) -> None:
        for (_, name), one in self.hub.traffic().items():
            assert one.published == len(self.published)
            assert one.published == one.answered + one.skipped + one.dropped + one.waiting + one.in_flight
            assert one.dropped == sum(one.drops.values())
            assert len(self.ended[name]) == one.answered + one.skipped + one.dropped
            assert len(set(self.ended[name])) == len(self.ended[name])
            assert one.waiting <= (LIMITS.archive_rows if name == "decoy" else LIMITS.waiting_rows)

    @invariant()
    def nobody_holds_more_than_its_credit(self) -> None:
        for link in self.links:
            assert len(link.frames) <= link.credit
            assert all(batch.n <= LIMITS.max_rows for batch in link.frames)

    @invariant()
    def nothing_waits_beside_free_credit(self) -> None:
        for (_, name), one in self.hub.traffic().items():
            free = [link for link in self.links if link.name == name and len(link.frames) < link.credit]
            assert not (one.waiting and free)


ExchangeMachine.TestCase.settings = settings(stateful_step_count=40, deadline=None)


class TestExchange(ExchangeMachine.TestCase):  # type: ignore[misc, name-defined]
    """Every row ends exactly once for every name, within credit and bounds, and never waits beside free credit."""
