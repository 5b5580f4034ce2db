"""A small world for workers: registry, artifact store, a hub, and models that add up their inputs."""

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rdv.backends.artifacts import ArtifactStore, file_entries
from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.config import Goal
from rdv.inputs import InputField, InputSpec, RowSchema
from rdv.manifest import Manifest, ModelInfo
from rdv.records import Pointer, Version, decode, encode, pointer_key, version_key
from rdv.serving.bus.frames import FramesHub
from rdv.serving.bus.port import NO_DEADLINE, Identity, Requests, Scores
from rdv.serving.noticing import SocketFolder
from rdv.serving.worker.loading import Loader
from rdv.serving.worker.shelf import Shelf
from rdv.serving.worker.worker import Post, Worker, WorkerDetails
from rdv.supervise import TaskOwner

TOPIC, MODEL = "total", "total/sum"
SCHEMA = RowSchema(("a", "b"))
SPEC = InputSpec((InputField("a"), InputField("b")))
HANG_S = 60.0


class World:
    """One model's registry and artifacts, and the gateways and workers that a test puts beside them."""

    TOPIC, MODEL, SCHEMA = TOPIC, MODEL, SCHEMA

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = SqliteRegistry(folder / "registry.sqlite")
        self.store = ArtifactStore(DirBlobs(folder / "artifacts"))
        self.bus = folder / "run" / "bus"
        self.bus.mkdir(parents=True)
        self.goal = Goal(schema={}, budget_ms=50, default=0.0, answer="number")
        self.details: list[WorkerDetails] = []
        self.scores: list[tuple[Identity, Scores]] = []
        self.changed = asyncio.Event()
        self.loads: list[str] = []

    def publish(self, version: str, offset: float, **changes: object) -> Manifest:
        """Publish a version that adds up its inputs and an offset; changes: of its model info."""
        source = self.folder / "made" / version
        source.mkdir(parents=True)
        (source / "model.json").write_text(json.dumps({"offset": offset}))
        rows = ((1.0, 2.0), (3.0, 4.0))
        fields = {
            "file": "model.json",
            "flavour": "sum",
            "kind": "number",
            "inputs": SPEC,
            "probe_rows": rows,
            "probe_scores": tuple((sum(row) + offset,) for row in rows),
        }
        info = ModelInfo(**{**fields, **changes})
        manifest = Manifest(
            name=f"models/{version}", kind="model", attempt="a", files=file_entries(source), task="t", model=info
        )
        self.store.publish(manifest, source)
        record = Version(model=MODEL, version=version, artifact=manifest.name, digest=manifest.digest())
        self.registry.put(version_key(MODEL, version), encode(record), 0)
        return manifest

    def deploy(self, version: str) -> None:
        """Move the pointer."""
        entry = self.registry.get(pointer_key(MODEL))
        before = decode(Pointer, entry.value, "") if entry else Pointer(version="", serial=0)
        pointer = Pointer(version=version, previous=before.version, serial=before.serial + 1)
        self.registry.put(pointer_key(MODEL), encode(pointer))

    @contextlib.asynccontextmanager
    async def gateway(self, name: str = "g1") -> AsyncIterator[FramesHub]:
        """A hub on a socket in the bus folder."""

        def note(identity: Identity, scores: Scores, now: float) -> None:
            self.scores.append((identity, scores))
            self.changed.set()

        hub = FramesHub(name, note)
        hub.expect(TOPIC, SCHEMA, [MODEL])
        await hub.listen(self.bus / f"{name}.sock")
        try:
            yield hub
        finally:
            await hub.close()

    @contextlib.asynccontextmanager
    async def worker(self, replica: str = "0") -> AsyncIterator[Worker]:
        """A worker in this loop."""

        def note(details: WorkerDetails) -> None:
            self.details.append(details)
            self.changed.set()

        loader = Loader(MODEL, self.goal, SCHEMA, self.registry, self.store, Shelf(self.folder / "serving" / MODEL))
        load = loader.load

        def counted(version: str, *rest: object) -> object:
            self.loads.append(version)
            return load(version, *rest)

        loader.load = counted
        owner = TaskOwner(f"worker-{replica}", drain_s=1.0, flush_s=2.0)
        post = Post(MODEL, replica, TOPIC, SCHEMA, SocketFolder(self.bus))
        async with owner:
            made = Worker(owner, post, self.registry, loader, note)
            made.start()
            yield made

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something that a worker or hub told, or that a connection changed."""
        async with asyncio.timeout(HANG_S):
            while not true():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await self.changed.wait()

    async def serving(self, version: str) -> None:
        """Wait until the newest word of a worker is that it serves this version, to some gateway."""
        await self.until(lambda: self.details and self.details[-1].version == version and self.details[-1].gateways)

    @staticmethod
    def batch(first: int, rows: int = 1, deadline: float = NO_DEADLINE) -> Requests:
        """Rows whose numbers are (id, 1)."""
        ids = range(first, first + rows)
        doubles = struct.pack(f"<{2 * rows}d", *(value for one in ids for value in (one, 1)))
        return Requests(
            TOPIC,
            "g1",
            rows,
            b"".join(one.to_bytes(16, "big") for one in ids),
            struct.pack(f"<{rows}d", *[deadline] * rows),
            struct.pack(f"<{rows}d", *[time.time()] * rows),
            bytes(8 * rows),
            doubles,
        )

    def answers(self) -> dict[int, tuple[str, float]]:
        """Version and value by id, of every row that was scored."""
        found = {}
        for _, scores in self.scores:
            n = len(scores.ids) // 16
            for at, value in enumerate(struct.unpack(f"<{n}d", scores.values)):
                found[int.from_bytes(scores.ids[16 * at : 16 * at + 16], "big")] = (scores.version, value)
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world in a folder of its own."""
    return World(tmp_path)
