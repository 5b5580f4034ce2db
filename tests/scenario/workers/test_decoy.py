"""The decoy keeps what was published, once, and says what it could not keep."""

import asyncio
import resource
import signal
import struct

import msgspec
import pytest

from rdv.config import Config, Goal, ModellingGoal, Project, Serve
from rdv.errors import UsageError
from rdv.inputs import RowSchema
from rdv.serving.bus.frames import FramesHub
from rdv.serving.bus.port import Events
from rdv.serving.noticing import SocketFolder
from rdv.serving.recording.decoy import Decoy, DecoyDetails, Remembered, Scribe, open_journals
from rdv.serving.recording.journal import JournalWriter, read_journal
from rdv.serving.recording.match import journal_ids, match, match_ids
from rdv.supervise import TaskOwner


def hexes(first: int, rows: int) -> list[str]:
    """The ids that `world.batch` gives its rows."""
    return [one.to_bytes(16, "big").hex() for one in range(first, first + rows)]


@pytest.fixture
def project(tmp_path) -> Project:
    """A project with a goal of its own name and one of two modelling goals, one without a decoy."""
    both = {"day": ModellingGoal(), "night": ModellingGoal(decoy=False)}
    goals = {
        "total": Goal(schema={}, budget_ms=50, default=0.0),
        "other": Goal(schema={}, budget_ms=50, default=0.0, modelling=both),
    }
    return Project(tmp_path, Config(goals=goals, serve=Serve(journal_mb=8, segment_mb=1)))


def test_what_was_published_is_in_the_journal(world, project) -> None:
    """Requests (expired ones too) and events are kept once each, and the hub hears so for every row."""

    async def main() -> None:
        schemas = {"total": world.SCHEMA, "other/day": RowSchema(("x",)), "other/night": RowSchema(("x",))}
        told: list[DecoyDetails] = []
        hub = FramesHub("g1", lambda *_: None)
        for topic, schema in schemas.items():
            hub.expect(topic, schema, ["decoy"])
        for goal in ("total", "other"):
            hub.expect(f"{goal}/events", RowSchema(), ["recorder"])
        await hub.listen(world.bus / "g1.sock")
        owner = TaskOwner("decoy")
        async with owner:
            Decoy(owner, SocketFolder(world.bus), "0", open_journals(project, schemas), told.append).start()
            await world.until(lambda: len(hub.replicas("total")) == len(hub.replicas("other/events")) == 1)
            hub.publish(world.batch(0, 600))
            hub.publish(world.batch(600, 3, deadline=0.0))
            hub.publish(Events("total/events", "g1", world.batch(0, 2).ids, [b"a", b"b"]))
            await world.until(hub.quiet)
            traffic = hub.traffic()
            await hub.close()
        assert traffic["total", "decoy"].answered == 603
        assert traffic["total/events", "recorder"].answered == 2
        assert traffic["other/night", "decoy"].published == 0
        journal = project.state / "journal"
        found = match(hexes(0, 603), journal / "total", journal / "total" / "events")
        assert (found.kept, found.told, found.not_kept, found.kept_twice, found.kept_only) == (603, 2, (), (), ())
        assert found.not_told == tuple(hexes(2, 601))
        numbers = b"".join(batch.numbers for _, batch in read_journal(journal / "total"))
        assert struct.unpack("<1206d", numbers)[::2] == tuple(range(603))
        assert told[-1].topics["total"].journal.written == 603

    asyncio.run(main())


def test_rows_that_come_twice_are_written_once(world, tmp_path) -> None:
    """A batch that is sent again, whole or in other pieces, is acknowledged and not written again."""
    writer = JournalWriter(tmp_path / "j", "total", world.SCHEMA)
    scribe = Scribe(writer)
    sent = [world.batch(0, 4), world.batch(0, 4), world.batch(2, 4), world.batch(9)]
    for batch in sent:
        scores = scribe.write(batch)
        assert (scores.ids, scores.skipped) == (batch.ids, 0)
    writer.close()
    assert list(journal_ids(tmp_path / "j")) == hexes(0, 6) + hexes(9, 1)
    assert scribe.details().repeated == 6


def test_what_the_disk_refuses_is_told_as_skipped_and_may_come_again(world, tmp_path) -> None:
    """A full disk is no crash: the rows are counted as not kept, and are kept when they come again to a free disk."""
    writer = JournalWriter(tmp_path / "j", "total", world.SCHEMA)
    scribe = Scribe(writer)
    scribe.write(world.batch(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (writer.counts.bytes_written, limits[1]))
        scores = scribe.write(world.batch(1, 5))
        assert (scores.ids, scores.skipped) == (b"", 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert scribe.write(world.batch(1, 5)).skipped == 0
    writer.close()
    assert list(journal_ids(tmp_path / "j")) == hexes(0, 6)
    assert msgspec.to_builtins(scribe.details())["journal"]["refused"] == 5


def test_memory_of_ids_is_bounded_and_long_enough(world) -> None:
    """At least the last so many ids are remembered, and never more than twice as many."""
    remembered = Remembered(most=10)
    for first in range(0, 100, 5):
        assert remembered.fresh(world.batch(first, 5)) is not None
        remembered.add(world.batch(first, 5))
        assert remembered.fresh(world.batch(max(0, first - 4), 5)) is None
        assert len(remembered._new) + len(remembered._old) <= 30


def test_two_decoys_do_not_share_a_journal(world, project) -> None:
    """A second decoy in a project is refused, and leaves the first one's journals alone."""
    schemas = {"total": world.SCHEMA, "other/day": RowSchema(), "other/night": RowSchema()}
    first = open_journals(project, schemas)
    with pytest.raises(UsageError, match="another process"):
        open_journals(project, schemas)
    for _, writer in first.values():
        writer.close()
    for _, writer in open_journals(project, schemas).values():
        writer.close()


def test_every_way_of_not_matching_has_its_own_list() -> None:
    """Missing, repeated and unknown ids are told apart, on either side."""
    found = match_ids(["a", "b", "c"], ["a", "a", "b", "x"], ["c", "c", "y"])
    assert (found.accepted, found.kept, found.told) == (3, 3, 2)
    assert (found.not_kept, found.kept_twice, found.kept_only) == (("c",), ("a",), ("x",))
    assert (found.not_told, found.told_twice, found.told_only) == (("a", "b"), ("c",), ("y",))
