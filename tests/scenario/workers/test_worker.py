"""A worker scores, follows its pointer while it scores, and keeps what it has when all else is gone."""

import asyncio
import random
import shutil
import time

import pytest

from rdv.errors import CorruptArtifact
from rdv.records import pointer_key
from rdv.serving.worker.loading import Loader
from rdv.serving.worker.shelf import Shelf

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


def test_frames_are_answered_in_order_by_one_version(world) -> None:
    """Everything published is scored exactly, and rows past their deadline are skipped, not scored."""

    async def main() -> None:
        world.publish("v1", 100.0)
        world.deploy("v1")
        async with world.gateway() as hub, world.worker():
            await world.serving("v1")
            for first in range(0, 50, 5):
                hub.publish(world.batch(first, 5))
            hub.publish(world.batch(90, 1, deadline=time.monotonic() - 1))
            traffic = hub.traffic()[world.TOPIC, world.MODEL]
            await world.until(lambda: hub.quiet())
            traffic = hub.traffic()[world.TOPIC, world.MODEL]
            assert traffic.answered == 50
            assert traffic.skipped + traffic.dropped == 1
        assert world.answers() == {one: ("v1", one + 101.0) for one in range(50)}

    asyncio.run(main())


def test_a_swap_under_traffic_loses_no_row(world) -> None:
    """While versions change, every row is scored, by the version that its frame names, the old one first."""

    async def main() -> None:
        world.publish("v1", 1000.0)
        world.publish("v2", 2000.0)
        world.deploy("v1")
        async with world.gateway() as hub, world.worker():
            await world.serving("v1")
            sent = 0
            world.deploy("v2")
            while world.details[-1].version != "v2" or sent < 300:
                hub.publish(world.batch(sent, 3))
                sent += 3
                await asyncio.sleep(0.001)
            hub.publish(world.batch(sent, 3))
            await world.until(lambda: len(world.answers()) == sent + 3)
            assert [one.version for one in hub.replicas(world.TOPIC)] == ["v2"]
        offsets = {"v1": 1000.0, "v2": 2000.0}
        found = world.answers()
        assert all(value == one + 1 + offsets[version] for one, (version, value) in found.items())
        versions = [found[one][0] for one in sorted(found)]
        assert versions == sorted(versions)
        assert versions[-1] == "v2"

    asyncio.run(main())


def test_the_way_back_needs_no_load(world) -> None:
    """Going back to the version before is a swap to what is still loaded, even with store and disk copies gone."""

    async def main() -> None:
        world.publish("v1", 1.0)
        world.publish("v2", 2.0)
        world.deploy("v1")
        async with world.gateway(), world.worker():
            await world.serving("v1")
            world.deploy("v2")
            await world.serving("v2")
            shutil.rmtree(world.folder / "artifacts")
            shutil.rmtree(world.folder / "serving")
            world.deploy("v1")
            await world.serving("v1")
        assert world.loads == ["v1", "v2"]
        assert world.details[-1].previous == "v2"

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["bytes", "scores", "missing", "kind"])
def test_a_bad_release_is_told_and_not_served(world, fault: str) -> None:
    """A release with wrong bytes, wrong scores, no artifact or another kind of answer leaves the old one serving."""

    async def main() -> None:
        world.publish("v1", 1.0)
        changes = {"scores": {"probe_scores": ((7.0,), (7.0,))}, "kind": {"kind": "probability"}}.get(fault, {})
        world.publish("v2", 2.0, **changes)
        for file in (world.folder / "artifacts" / "models" / "v2").rglob("model.json"):
            if fault == "bytes":
                file.chmod(0o644)
                file.write_text('{"offset": 3.0}')
            elif fault == "missing":
                file.unlink()
        world.deploy("v1")
        async with world.gateway() as hub, world.worker():
            await world.serving("v1")
            world.deploy("v2")
            await world.until(lambda: world.details[-1].refused)
            refused = world.details[-1].refused
            assert (refused.version, refused.serial, refused.tries) == ("v2", 2, 1)
            assert refused.reason
            hub.publish(world.batch(5))
            await world.until(lambda: 5 in world.answers())
            assert world.answers()[5] == ("v1", 7.0)
            world.publish("v3", 3.0)
            world.deploy("v3")
            await world.serving("v3")
            assert world.details[-1].refused is None
        assert world.loads == ["v1", "v2", "v3"]

    asyncio.run(main())


def test_it_starts_and_serves_with_everything_else_gone(world) -> None:
    """After a first run the worker's own disk is enough: no registry, no artifact store."""

    async def main() -> None:
        world.publish("v1", 10.0)
        world.deploy("v1")
        async with world.gateway():
            async with world.worker():
                await world.serving("v1")
                await world.until(lambda: Shelf(world.folder / "serving" / world.MODEL).good())
            world.registry.close()
            (world.folder / "registry.sqlite").rename(world.folder / "away")
            shutil.rmtree(world.folder / "artifacts")
            world.details.clear()
            async with world.worker("1"):
                await world.serving("v1")
                assert "registry" in world.details[-1].registry
                assert world.details[-1].serial == 0
        async with world.gateway("g2") as hub, world.worker("2"):
            await world.serving("v1")
            hub.publish(world.batch(1))
            await world.until(lambda: 1 in world.answers())

    asyncio.run(main())


def test_after_a_way_back_it_starts_with_what_it_went_back_to(world) -> None:
    """What serves after a rollback serves again after a restart without a registry."""

    async def main() -> None:
        for version in ("v1", "v2"):
            world.publish(version, 1.0)
        async with world.gateway():
            async with world.worker():
                for version in ("v1", "v2", "v1"):
                    world.deploy(version)
                    await world.serving(version)
                shelf = Shelf(world.folder / "serving" / world.MODEL)
                await world.until(lambda: (good := shelf.good()) and good.version == "v1")
            world.registry.close()
            (world.folder / "registry.sqlite").rename(world.folder / "away")
            world.details.clear()
            async with world.worker("1"):
                await world.serving("v1")

    asyncio.run(main())


def test_a_missing_pointer_never_unloads(world) -> None:
    """When the pointer disappears, or cannot be read, what is served stays."""

    async def main() -> None:
        world.publish("v1", 1.0)
        world.deploy("v1")
        async with world.gateway() as hub, world.worker():
            await world.serving("v1")
            world.registry.put(pointer_key(world.MODEL), b"{not json")
            await world.until(lambda: world.details[-1].registry)
            world.registry.delete(pointer_key(world.MODEL))
            await world.until(lambda: not world.details[-1].registry)
            hub.publish(world.batch(3))
            await world.until(lambda: 3 in world.answers())
            assert world.details[-1].version == "v1"

    asyncio.run(main())


def test_a_damaged_copy_on_disk_is_fetched_again(world) -> None:
    """A last known good whose bytes have changed is not served; the artifact store's copy replaces it."""

    async def main() -> None:
        world.publish("v1", 1.0)
        world.deploy("v1")
        async with world.gateway():
            async with world.worker():
                await world.serving("v1")
            (world.folder / "serving" / world.MODEL / "v1" / "model").write_text('{"offset": 9.0}')
            world.details.clear()
            async with world.worker("1"):
                await world.serving("v1")
        assert (world.folder / "serving" / world.MODEL / "v1" / "model").read_text() == '{"offset": 1.0}'

    asyncio.run(main())


def test_gateways_come_and_go(world) -> None:
    """A gateway that appears is served, one that leaves is let go, one that returns is served again."""

    async def main() -> None:
        world.publish("v1", 1.0)
        world.deploy("v1")
        async with world.worker():
            async with world.gateway("g1"):
                await world.until(lambda: world.details[-1:] and world.details[-1].gateways == ("g1",))
                async with world.gateway("g2") as second:
                    await world.until(lambda: world.details[-1].gateways == ("g1", "g2"))
                    second.publish(world.batch(2))
                    await world.until(lambda: 2 in world.answers())
                await world.until(lambda: world.details[-1].gateways == ("g1",))
            await world.until(lambda: world.details[-1].gateways == ())
            async with world.gateway("g1"):
                await world.until(lambda: world.details[-1].gateways == ("g1",))

    asyncio.run(main())


def test_a_second_replica_of_the_same_name_is_refused_and_told(world) -> None:
    """Two processes that claim to be the same replica do not share its traffic: one serves, the other says why not."""

    async def main() -> None:
        world.publish("v1", 1.0)
        world.deploy("v1")
        async with world.gateway(), world.worker("same"):
            await world.serving("v1")
            async with world.worker("same"):
                await world.until(lambda: world.details[-1].not_connected)
                assert "connected already" in world.details[-1].not_connected["g1"]

    asyncio.run(main())


def test_mutated_files_are_never_activated(world) -> None:
    """Of 200 mutations of a published model file not one gets past its checksum, and none is even opened."""
    manifest = world.publish("v1", 1.0)
    file = next((world.folder / "artifacts" / "models" / "v1").rglob("model.json"))
    content, chance = file.read_bytes(), random.Random(3)
    loader = Loader(
        world.MODEL, world.goal, world.SCHEMA, world.registry, world.store, Shelf(world.folder / "serving" / "m")
    )
    file.chmod(0o644)
    for _ in range(200):
        mutated = bytearray(content)
        mutated[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        file.write_bytes(mutated if chance.random() < 0.8 else mutated[: chance.randrange(len(content))])
        with pytest.raises(CorruptArtifact):
            loader.load("v1")
    file.write_bytes(content)
    assert loader.load("v1").digest == manifest.digest()
