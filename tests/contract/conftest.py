"""What the contract suites share: one bench per port, with a way to run a scenario on every adapter."""

import asyncio
import contextlib
import itertools
import math
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from rdv.inputs import RowSchema
from rdv.serving.bus import frames, grpc_client
from rdv.serving.bus.exchange import Limits
from rdv.serving.bus.grpc_hub import GrpcHub
from rdv.serving.bus.memory import MemoryHub
from rdv.serving.bus.port import NO_DEADLINE, Batch, Hub, Identity, Requests, Scores, Subscription, Traffic

ADAPTERS = ("run_bus", "member", "servers")
"""The fixtures whose parameter is the adapter: its name, or a function that opens it."""
TOPIC = "visit"
SCHEMA = RowSchema(("age", "income"), ("plan",))
HANG_S = 60.0
BRISK = Limits(linger_s=0.05)
_folders = itertools.count()


@pytest.fixture(autouse=True)
def _contract_member(request: pytest.FixtureRequest) -> None:
    """Tell the table at the end of the run which port's suite this test is of, and on which adapter it runs."""
    path: Path = request.path
    port = path.parent.name if path.parent.name != "contract" else path.stem.removeprefix("test_").partition("_")[0]
    chosen = [getattr(value, "__name__", value) for value in _parameters(request).values()]
    adapter = chosen[0] if chosen else (request.cls.__name__.removeprefix("Test") if request.cls else "")
    if adapter:
        request.node.user_properties.append(("member", f"{port} {adapter.lower()}"))


def _parameters(request: pytest.FixtureRequest) -> dict[str, Any]:
    call = getattr(request.node, "callspec", None)
    return {name: value for name, value in call.params.items() if name in ADAPTERS} if call else {}


class Bench:
    """One hub with what it reported, and a way to subscribe to it."""

    TOPIC, SCHEMA = TOPIC, SCHEMA

    def __init__(self) -> None:
        self.scores: list[tuple[Identity, Scores]] = []
        self.lost: list[tuple[str, str, bytes, str]] = []
        self.hub: Hub
        self.subscribe: Callable[[Identity], Awaitable[Subscription]]

    def note(self, identity: Identity, scores: Scores, now: float) -> None:
        self.scores.append((identity, scores))

    def lose(self, topic: str, name: str, ids: bytes, reason: str) -> None:
        self.lost.append((topic, name, ids, reason))

    async def join(self, name: str = "champion", replica: str = "r1", **other: Any) -> Subscription:
        return await self.subscribe(Identity(**{**self.identity(name, replica), **other}))

    def traffic(self, name: str = "champion") -> Traffic:
        return self.hub.traffic()[TOPIC, name]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so, as long as frames need to cross a socket."""
        async with asyncio.timeout(HANG_S):
            while not true():
                await asyncio.sleep(0.001)

    @staticmethod
    def rows(n: int, first: int = 0, deadline: float = NO_DEADLINE, plan: list[str | None] | None = None) -> Requests:
        """n requests whose `age` is first, first + 1, ..."""
        numbers = [value for at in range(n) for value in (float(first + at), math.nan)]
        return Requests(
            topic=TOPIC,
            reply_to="gw-1",
            n=n,
            ids=os.urandom(16 * n),
            deadlines=struct.pack(f"<{n}d", *[deadline] * n),
            accepted_at=struct.pack(f"<{n}d", *[1e9] * n),
            marks=struct.pack(f"<{n}Q", *range(n)),
            numbers=struct.pack(f"<{2 * n}d", *numbers),
            strings=[plan or [None] * n],
        )

    @staticmethod
    def ages(batches: list[Batch]) -> list[int]:
        """The `age` of every row, in order."""
        found: list[int] = []
        for batch in batches:
            assert isinstance(batch, Requests)
            found += [int(value) for value in struct.unpack(f"<{2 * batch.n}d", batch.numbers)[::2]]
        return found

    @staticmethod
    def answer(subscription: Subscription, batch: Batch, scored: int | None = None) -> None:
        """Answer one batch with its rows' numbers 0.5, all or only the first ones of them."""
        n = batch.n if scored is None else scored
        subscription.send(
            Scores("gw-1", "v1", batch.ids[: 16 * n], struct.pack("<d", 0.5) * n, 1, batch.n - n, 0.1, 0.2)
        )

    @staticmethod
    async def answer_all(subscription: Subscription, n: int) -> list[int]:
        """Receive and answer until n rows have come; their ages."""
        seen: list[int] = []
        while len(seen) < n:
            for batch in await subscription.receive():
                seen += Bench.ages([batch])
                Bench.answer(subscription, batch)
        return seen

    @staticmethod
    def identity(name: str, replica: str) -> dict[str, Any]:
        return {"topic": TOPIC, "name": name, "replica": replica, "version": "v1", "schema": SCHEMA}


@contextlib.asynccontextmanager
async def memory(folder: Path, limits: Limits) -> AsyncIterator[Bench]:
    bench = Bench()
    hub = MemoryHub(bench.note, bench.lose, limits)
    bench.hub, bench.subscribe = hub, hub.subscribe
    yield bench
    await hub.close()


@contextlib.asynccontextmanager
async def unix(folder: Path, limits: Limits) -> AsyncIterator[Bench]:
    bench = Bench()
    hub = frames.FramesHub("gw-1", bench.note, bench.lose, limits)
    path = folder / f"bus-{next(_folders)}.sock"
    await hub.listen(path)
    bench.hub, bench.subscribe = hub, lambda identity: frames.subscribe(path, identity)
    yield bench
    await hub.close()


@contextlib.asynccontextmanager
async def grpc(folder: Path, limits: Limits) -> AsyncIterator[Bench]:
    bench = Bench()
    hub = GrpcHub("gw-1", bench.note, bench.lose, limits)
    port = await hub.listen("127.0.0.1", 0)
    subscriptions: list[Subscription] = []

    async def subscribe(identity: Identity) -> Subscription:
        subscriptions.append(await grpc_client.subscribe(f"127.0.0.1:{port}", identity))
        return subscriptions[-1]

    bench.hub, bench.subscribe = hub, subscribe
    yield bench
    await hub.close()
    for subscription in subscriptions:
        await subscription.close()
    while len(asyncio.all_tasks()) > 1:  # the library's own end a moment later
        await asyncio.sleep(0.001)


Adapter = Callable[[Path, Limits], contextlib.AbstractAsyncContextManager[Bench]]
Run = Callable[..., None]


@pytest.fixture(params=[memory, unix, grpc], ids=["memory", "frames", "grpc"])
def run_bus(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """A function that runs a coroutine function on a fresh hub of the adapter, in uvloop, bounded in time."""
    adapter: Adapter = request.param

    async def within(scenario: Callable[[Bench], Awaitable[None]], limits: Limits, names: tuple[str, ...]) -> None:
        async with asyncio.timeout(HANG_S), adapter(tmp_path, limits) as bench:
            bench.hub.expect(TOPIC, SCHEMA, names)
            await scenario(bench)

    def running(
        scenario: Callable[[Bench], Awaitable[None]],
        limits: Limits = BRISK,
        names: tuple[str, ...] = ("champion",),
    ) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(within(scenario, limits, names))

    return running
