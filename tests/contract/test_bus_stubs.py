"""bus.proto is all that a worker in another language needs: one made of generated stubs alone takes part in the bus."""

import asyncio
import importlib.resources
import math
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from rdv.inputs import RowSchema
from rdv.serving.bus.grpc_hub import GrpcHub
from rdv.serving.bus.port import Events, Identity, Requests, Scores

TOPIC = "visit"
SCHEMA = RowSchema(("age", "income"), ("plan", "town"))
WAIT_S = 30.0


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The modules that the compiler of the published file makes, as anybody would."""
    folder = tmp_path_factory.mktemp("stubs")
    source = importlib.resources.files("rdv.serving.bus") / "bus.proto"
    (folder / "rdv_bus.proto").write_text(source.read_text())
    argv = ["-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([sys.executable, *argv, "rdv_bus.proto"], check=True, timeout=WAIT_S)
    sys.path.insert(0, str(folder))
    try:
        import rdv_bus_pb2
        import rdv_bus_pb2_grpc

        yield rdv_bus_pb2, rdv_bus_pb2_grpc
    finally:
        sys.path.remove(str(folder))


class StubWorker:
    """A worker of generated stubs and threads: `age + 1` for each row, NaN where that is missing."""

    def __init__(self, stubs: Any, port: int) -> None:
        self.messages, self.services = stubs
        self.seen: list[Any] = []
        self.problem = ""
        self._answers: list[Any] = [self._hello()]
        self._ready = threading.Condition()
        self._left = False
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _hello(self) -> Any:
        hello = self.messages.Hello(protocol=1, topic=TOPIC, name="champion", replica="java-1", version="v1", credit=2)
        hello.numbers.extend(SCHEMA.numbers)
        hello.strings.extend(SCHEMA.strings)
        return self.messages.FromSubscriber(hello=hello)

    def _sent(self) -> Any:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._answers or self._left)
                if not self._answers:
                    return
                answer = self._answers.pop(0)
            yield answer

    def say(self, answer: Any) -> None:
        with self._ready:
            self._answers.append(answer)
            self._ready.notify()

    def leave(self) -> None:
        with self._ready:
            self._left = True
            self._ready.notify()
        self._thread.join(WAIT_S)
        self._channel.close()

    def _work(self) -> None:
        try:
            for message in self.services.BusStub(self._channel).Subscribe(self._sent()):
                self.seen.append(message)
                if message.WhichOneof("message") == "requests":
                    self.say(self.messages.FromSubscriber(scores=self._scored(message.requests)))
        except grpc.RpcError as error:
            self.problem = error.details()
        except Exception as error:
            self.problem = repr(error)

    def _scored(self, batch: Any) -> Any:
        n, width = len(batch.ids) // 16, len(batch.numbers) // (len(batch.ids) // 16)
        ages = [batch.numbers[row * width] for row in range(n)]
        skipped = sum(left <= 0 for left in batch.seconds_left)
        scores = self.messages.Scores(reply_to=batch.reply_to, version="v1", ids=batch.ids, width=1, skipped=skipped)
        scores.values.extend(age + 1 for age in ages)
        scores.eval_s = 0.25
        return scores


class Told:
    """What the hub reported."""

    def __init__(self) -> None:
        self.scores: list[tuple[Identity, Scores]] = []

    def note(self, identity: Identity, scores: Scores, now: float) -> None:
        self.scores.append((identity, scores))


def requests(deadline: float) -> Requests:
    """Two rows, one with everything, one with what can be missing missing."""
    return Requests(
        TOPIC,
        "gw-1",
        2,
        os.urandom(32),
        struct.pack("<2d", deadline, math.inf),
        struct.pack("<2d", 1e9, 1e9 + 0.5),
        struct.pack("<2Q", 1, 2**63),
        struct.pack("<4d", 41.0, -0.5, math.nan, math.nan),
        [["gold", None], ["", "Zürich"]],
    )


@pytest.fixture
def run() -> Callable[..., None]:
    """A function that runs a scenario on a hub with one topic."""
    def running(scenario: Any) -> None:
        async def within() -> None:
            told = Told()
            hub = GrpcHub("gw-1", told.note)
            hub.expect(TOPIC, SCHEMA, ["champion"])
            port = await hub.listen("127.0.0.1", 0)
            async with asyncio.timeout(WAIT_S):
                await scenario(hub, told, port)
                await hub.close()
                while len(asyncio.all_tasks()) > 1:
                    await asyncio.sleep(0.001)

        asyncio.run(within())

    return running


@pytest.mark.parametrize("compress_bytes", [0, 1, 4000])
def test_compressed_batches_are_read(stubs: Any, compress_bytes: int) -> None:
    """Large batches may be compressed and small ones not: any client's library undoes that by itself."""

    async def work() -> None:
        told = Told()
        hub = GrpcHub("gw-1", told.note, compress_bytes=compress_bytes)
        hub.expect(TOPIC, SCHEMA, ["champion"])
        port = await hub.listen("127.0.0.1", 0)
        worker = StubWorker(stubs, port)
        await until(lambda: hub.replicas(TOPIC))
        for at, plan in enumerate(("x", "y" * 100_000), start=1):
            batch = requests(math.inf)
            batch.strings = [[plan, None], ["", plan]]
            hub.publish(batch)
            await until(lambda at=at: len(told.scores) == at or worker.problem)
        assert [message.requests.strings[0].values[0] for message in worker.seen[1:]] == ["x", "y" * 100_000]
        await asyncio.to_thread(worker.leave)
        await hub.close()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)

    asyncio.run(work())


async def until(true: Callable[[], object]) -> None:
    """Wait for something that happens in another thread."""
    while not true():
        await asyncio.sleep(0.002)


def test_worker_of_generated_stubs_scores(run: Any, stubs: Any) -> None:
    """A worker made of stubs is welcomed, reads every column as it was sent, and its scores come back to the bit."""

    async def scenario(hub: Any, told: Told, port: int) -> None:
        worker = StubWorker(stubs, port)
        await until(lambda: hub.replicas(TOPIC))
        batch = requests(time.monotonic() + 5.0)
        hub.publish(batch)
        await until(lambda: told.scores or worker.problem)
        assert worker.problem == ''
        welcome, received = worker.seen
        assert (welcome.welcome.protocol, welcome.welcome.gateway) == (1, "gw-1")
        row = received.requests
        assert (row.topic, row.reply_to, row.ids) == (TOPIC, "gw-1", batch.ids)
        assert 4.0 < row.seconds_left[0] - received.waited_s <= 5.0
        assert row.seconds_left[1] == math.inf
        assert (list(row.accepted_at), list(row.marks)) == ([1e9, 1e9 + 0.5], [1, 2**63])
        assert list(row.numbers[:2]) == [41.0, -0.5]
        assert all(map(math.isnan, row.numbers[2:]))
        columns = [(list(column.values), list(column.missing)) for column in row.strings]
        assert columns == [(["gold", ""], [1]), (["", "Zürich"], [])]
        identity, scores = told.scores[0]
        assert (identity.name, identity.replica, scores.version, scores.eval_s) == ("champion", "java-1", "v1", 0.25)
        first, second = struct.unpack("<2d", scores.values)
        assert (first, math.isnan(second)) == (42.0, True)
        worker.say(worker.messages.FromSubscriber(announce=worker.messages.Announce(version="v2")))
        await until(lambda: hub.replicas(TOPIC)[0].version == "v2")
        await asyncio.to_thread(worker.leave)
        await until(lambda: not hub.replicas(TOPIC))
        assert worker.problem == ""

    run(scenario)


def test_recorder_of_generated_stubs_gets_events(run: Any, stubs: Any) -> None:
    """Events reach a subscriber made of stubs, and what it does wrong is told to it as the status's message."""

    async def scenario(hub: Any, told: Told, port: int) -> None:
        hub.expect("visit/events", RowSchema(), ["recorder"])
        messages = stubs[0]
        worker = StubWorker.__new__(StubWorker)
        hello = messages.Hello(protocol=1, topic="visit/events", name="recorder", replica="r", credit=1, archive=True)
        worker._hello = lambda: messages.FromSubscriber(hello=hello)  # type: ignore[method-assign]
        worker.__init__(stubs, port)  # type: ignore[misc]
        await until(lambda: hub.replicas("visit/events"))
        hub.publish(Events("visit/events", "gw-1", bytes(16), [b"\x80"]))
        await until(lambda: len(worker.seen) == 2)
        assert list(worker.seen[1].events.records) == [b"\x80"]
        worker.say(messages.FromSubscriber(scores=messages.Scores(ids=bytes(32), width=0)))
        await until(lambda: worker.problem)
        assert "answered 2 rows" in worker.problem
        await asyncio.to_thread(worker.leave)

    run(scenario)
