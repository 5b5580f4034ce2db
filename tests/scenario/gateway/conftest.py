"""A live gateway with workers that add up their inputs, in the test's own loop, and a client that sends raw bytes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from rdv.config import Config, Goal, Model, Project, Serve, Tier
from rdv.errors import BusError
from rdv.inputs import RowSchema
from rdv.serving.bus.frames import FramesSubscription, subscribe
from rdv.serving.bus.port import Identity, Requests, Scores
from rdv.serving.gateway.role import run_gateway
from rdv.serving.recording.events import Event, decode_event

HANG_S = 60.0
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "number", "minimum": -1000}, "b": {"type": "number"}, "plan": {"type": "string"}},
    "required": ["a"],
}
ROWS = RowSchema(("a", "b"), ("plan",))
Values = Callable[[Any], Any]


def total(matrix: Any) -> Any:
    """What the workers answer: the sum of a row's numbers, absent ones as 0."""
    return np.nansum(matrix, axis=1)


@dataclass
class Answer:
    """A parsed HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer on a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(head[0].split()[1]), headers, body)


@dataclass
class Live:
    """A running gateway. seen: rows by archive or model name; events: what the recorder got."""

    project: Project
    facts: dict[str, Any]
    stack: AsyncExitStack
    stop: asyncio.Event
    done: "asyncio.Future[None]"
    seen: dict[str, list[bytes]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    marks: list[bytes] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.facts["port"])
        self.stack.callback(writer.close)
        return reader, writer

    async def raw(self, *parts: bytes, pause_s: float = 0.0) -> tuple[list[Answer], bool]:
        """Send bytes on a fresh connection, then everything that comes until the gateway hangs up or is silent.

        Returns the answers, and whether it hung up.
        """
        reader, writer = await self.connect()
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause_s)
        answers: list[Answer] = []
        try:
            async with asyncio.timeout(HANG_S):
                while True:
                    answers.append(await read_answer(reader))
                    if answers[-1].headers.get("connection") != "close":
                        return answers, False
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return answers, True

    async def first(self, *parts: bytes, within_s: float) -> Answer | None:
        """The first answer to some bytes, None when the gateway hangs up or says nothing for so long."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.facts["port"])
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0)
            async with asyncio.timeout(within_s):
                return await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return None
        finally:
            writer.close()

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One whole request on a connection of its own."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = "content-type: application/json\r\n" if body is not None and "content_type" not in headers else ""
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n{kind}{more}\r\n"
        answers, _ = await self.raw(head.encode() + data)
        return answers[0]

    async def score(self, record: Any) -> Answer:
        return await self.call("POST", "/v1/goals/sum/score", record)

    async def admin(self, method: str, path: str, body: Any = None) -> Answer:
        """One request to the admin socket."""
        reader, writer = await asyncio.open_unix_connection(self.facts["admin"])
        data = b"" if body is None else json.dumps(body).encode()
        kind = "content-type: application/json\r\n" if data else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n{kind}\r\n"
        writer.write(head.encode() + data)
        try:
            return await read_answer(reader)
        finally:
            writer.close()

    async def status(self, goal: str = "sum") -> dict[str, Any]:
        view: dict[str, Any] = (await self.admin("GET", "/status")).json
        return {**view, **view["goals"][goal]}

    async def has_open(self, n: int) -> bool:
        """Whether so many requests are accepted and not answered yet."""
        return bool((await self.status())["ledger"]["open"] == n)

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(HANG_S):
            while not await true():
                await asyncio.sleep(0.005)

    async def worker(
        self, name: str, values: Values = total, delay_s: float = 0.0, version: str = "v1", topic: str = "sum"
    ) -> FramesSubscription:
        """A model that answers `values` of its matrix, after a delay."""
        return await self._join(Identity(topic, name, "r1", version, ROWS), self._scorer(values, delay_s, version))

    async def archive(self, name: str, topic: str) -> None:
        """A decoy or recorder that keeps what it is sent."""
        schema = RowSchema() if name == "recorder" else ROWS

        def keep(batch: Any) -> Scores:
            self.seen.setdefault(name, []).extend(batch.ids[at : at + 16] for at in range(0, len(batch.ids), 16))
            if isinstance(batch, Requests):
                self.marks.append(batch.marks)
            else:
                self.events.extend(map(decode_event, batch.records))
            return Scores(batch.reply_to, "", batch.ids, b"", 0)

        async def answer(subscription: FramesSubscription, batch: Any) -> None:
            subscription.send(keep(batch))

        await self._join(Identity(topic, name, "r1", "", schema, credit=8, archive=True), answer)

    def _scorer(self, values: Values, delay_s: float, version: str) -> Any:
        async def answer(subscription: FramesSubscription, batch: Any) -> None:
            if delay_s:
                await asyncio.sleep(delay_s)
            matrix = np.frombuffer(batch.numbers).reshape(batch.n, -1)
            data = np.ascontiguousarray(values(matrix), dtype="<f8").tobytes()
            subscription.send(Scores(batch.reply_to, version, batch.ids, data, len(data) // 8 // batch.n, 0, 0.0, 1e-5))

        return answer

    async def _join(self, identity: Identity, answer: Any) -> FramesSubscription:
        subscription = await subscribe(Path(self.facts["bus"]), identity)

        async def work() -> None:
            with contextlib.suppress(BusError):
                while True:
                    for batch in await subscription.receive():
                        await answer(subscription, batch)

        task = asyncio.ensure_future(work())

        async def leave() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await subscription.close()

        self.stack.push_async_callback(leave)
        return subscription


def config(
    serve: dict[str, Any] | None = None,
    models: tuple[str, ...] = ("champion",),
    declared: dict[str, Model] | None = None,
    **goal: Any,
) -> Config:
    """A project whose one goal `sum` has these models, a generous budget and the given changes."""
    settings = {"schema": SCHEMA, "budget_ms": 30_000.0, "default": -1.0, "answer": "number", **goal}
    declared = declared or {name: Model(goal="sum") for name in models}
    return Config(goals={"sum": Goal(**settings)}, models=declared, serve=Serve(**{"port": 0, **(serve or {})}))


@asynccontextmanager
async def live(project: Project) -> AsyncIterator[Live]:
    """A gateway of this project, which has ended by itself when the block ends."""
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.ensure_future(run_gateway(project, stop, ready.set_result, "gw-1"))
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        async with AsyncExitStack() as stack:
            yield Live(project, ready.result(), stack, stop, task)
            stop.set()
            await task
    finally:
        stop.set()
        await task


Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(scenario, **config): a scenario against a live gateway of such a configuration, bounded in time."""

    async def within(scenario: Callable[[Live], Awaitable[None]], settings: Config) -> None:
        async with asyncio.timeout(HANG_S), live(Project(tmp_path, settings)) as gateway:
            await scenario(gateway)

    def running(scenario: Callable[[Live], Awaitable[None]], **change: Any) -> None:
        tiers = change.pop("tiers", None)
        if tiers is not None:
            change["tiers"] = tuple(Tier(until, tuple(names)) for until, names in tiers)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(within(scenario, config(**change)))

    return running


@pytest.fixture
def ledger_of() -> Callable[[dict[str, Any]], tuple[int, int, int, int, int]]:
    """A status as (accepted, answered, defaults, errors, open)."""

    def of(status: dict[str, Any]) -> tuple[int, int, int, int, int]:
        one = status["ledger"]
        assert one["balances"]
        return tuple(one[name] for name in ("accepted", "answered", "defaults", "errors", "open"))  # type: ignore[return-value]

    return of


@pytest.fixture
def project_of() -> Callable[..., Project]:
    """project_of(folder, **config): a project of such a configuration."""
    return lambda folder, **change: Project(folder, config(**change))


@pytest.fixture
def client_of() -> Callable[..., None]:
    """client_of(facts, scenario): a scenario against a gateway that runs elsewhere, bounded in time."""

    async def within(facts: dict[str, Any], scenario: Callable[[Live], Awaitable[None]]) -> None:
        async with asyncio.timeout(HANG_S), AsyncExitStack() as stack:
            await scenario(Live(Project(Path(), config()), facts, stack, asyncio.Event(), asyncio.Future()))

    def running(facts: dict[str, Any], scenario: Callable[[Live], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(within(facts, scenario))

    return running
