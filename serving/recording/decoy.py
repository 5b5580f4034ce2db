"""The decoy: subscribes like a model, answers nothing, and keeps the exact enriched request that every model saw.

The same process records each goal's events. Where a batch is not wanted twice (its gateway sent it again) its rows
are written once; what the disk does not take is answered as skipped, so that the gateway's ledger counts it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from rdv.config import Project
from rdv.errors import RdvError
from rdv.ids import MESSAGE_ID_BYTES
from rdv.inputs import RowSchema
from rdv.serving.bus.columns import join, part
from rdv.serving.bus.port import Batch, Identity, Scores, Subscription
from rdv.serving.dial import Dialer, Seat
from rdv.serving.noticing import Noticing
from rdv.serving.recording.events import DECOY, RECORDER, events_topic
from rdv.serving.recording.journal import JournalCounts, JournalWriter
from rdv.supervise import TaskOwner
from rdv.threads import in_daemon_thread

SYNC_S = 1.0
TELL_S = 1.0
CREDIT = 8
REMEMBERED_IDS = 65536
_MIB = 1 << 20
_log = logging.getLogger("rdv.decoy")


class TopicDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one topic's rows: in the journal, not taken by the disk, come twice and written once."""

    journal: JournalCounts
    repeated: int = 0


class DecoyDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoy tells in its record: its gateways, those it cannot reach and why, and each topic's counts."""

    gateways: tuple[str, ...] = ()
    not_connected: dict[str, str] = {}
    topics: dict[str, TopicDetails] = {}


class Remembered:
    """Ids that were seen lately: at least the last `most` of them, at most twice as many."""

    __slots__ = ("_most", "_new", "_old")

    def __init__(self, most: int = REMEMBERED_IDS) -> None:
        self._most, self._new, self._old = most, set[bytes](), set[bytes]()

    def fresh(self, batch: Batch) -> Batch | None:
        """The rows of a batch whose ids are not remembered, each once; None when there are none."""
        ids = _ids(batch)
        known = set(ids)
        if len(known) == len(ids) and self._new.isdisjoint(known) and self._old.isdisjoint(known):
            return batch
        rows = []
        for at, one in enumerate(ids):
            if one in known and one not in self._new and one not in self._old:
                rows.append(part(batch, at, at + 1))
            known.discard(one)
        return join(rows) if rows else None

    def add(self, batch: Batch) -> None:
        """Remember a batch's ids."""
        if len(self._new) >= self._most:
            self._old, self._new = self._new, set()
        self._new.update(_ids(batch))


class Scribe:
    """Writes one topic's batches to its journal."""

    def __init__(self, writer: JournalWriter) -> None:
        self.writer, self.repeated = writer, 0
        self._remembered = Remembered()

    def write(self, batch: Batch) -> Scores:
        """Keep a batch; the answer that tells its gateway so, or that none of it was kept."""
        fresh = self._remembered.fresh(batch)
        self.repeated += batch.n - (fresh.n if fresh is not None else 0)
        if fresh is not None:
            if not self.writer.append(fresh):
                return Scores(batch.reply_to, "", b"", b"", 0, batch.n)
            self._remembered.add(fresh)
        return Scores(batch.reply_to, "", batch.ids, b"", 0)

    def details(self) -> TopicDetails:
        """What became of the topic's rows so far."""
        return TopicDetails(journal=msgspec.structs.replace(self.writer.counts), repeated=self.repeated)


class Decoy:
    """One decoy process's work: a journal for every modelling goal that wants one, and one for each goal's events."""

    def __init__(
        self,
        owner: TaskOwner,
        noticing: Noticing,
        replica: str,
        journals: Mapping[str, tuple[RowSchema | None, JournalWriter]],
        on_change: Callable[[DecoyDetails], None] = lambda details: None,
    ) -> None:
        """journals: by topic; a row schema for requests, None for events."""
        self._owner, self._replica, self._on_change = owner, replica, on_change
        self._scribes = {topic: Scribe(writer) for topic, (_, writer) in journals.items()}
        seats = [self._seat(topic, schema) for topic, (schema, _) in journals.items()]
        self._dialer = Dialer(owner, noticing, seats, self._tell)
        self._told: DecoyDetails | None = None
        self._refused = 0

    def start(self) -> None:
        """Begin; needs a started owner, whose stop leaves the gateways first and closes the journals then."""
        self._dialer.start()
        self._owner.on_stop("close the journals", flush=self._close)
        self._owner.task("sync", self._sync)

    async def check(self) -> str:
        """Why this decoy is not well, empty when it is: since the last look no row was refused by the disk."""
        counts = [scribe.writer.counts for scribe in self._scribes.values()]
        before, self._refused = self._refused, sum(one.refused for one in counts)
        if self._refused == before:
            return ""
        return "the disk does not take all rows: " + next((one.last_error for one in counts if one.last_error), "")

    def _seat(self, topic: str, schema: RowSchema | None) -> Seat:
        name = RECORDER if schema is None else DECOY
        identity = Identity(topic, name, self._replica, "", schema or RowSchema(), credit=CREDIT, archive=True)
        scribe = self._scribes[topic]

        async def serve(subscription: Subscription) -> None:
            while True:
                for batch in await subscription.receive():
                    subscription.send(scribe.write(batch))

        return Seat(f"{name} of {topic}", lambda: identity, serve)

    async def _sync(self) -> None:
        """Make what was written survive the machine, about once a second, and tell how it stands."""
        while True:
            await asyncio.sleep(SYNC_S)
            for topic, scribe in self._scribes.items():
                try:
                    await in_daemon_thread(f"sync {topic}", scribe.writer.sync)
                except OSError as error:
                    _log.warning("the journal of %s is not durable now: %s", topic, error)
            self._tell()

    async def _close(self) -> None:
        for topic, scribe in self._scribes.items():
            try:
                scribe.writer.close()
            except OSError as error:
                _log.warning("the journal of %s could not be closed well: %s", topic, error)
        self._tell()

    def _tell(self) -> None:
        lines = self._dialer.lines.values()
        details = DecoyDetails(
            gateways=tuple(sorted({line.gateway for line in lines if line.connected})),
            not_connected={f"{line.seat} at {line.gateway}": line.refused for line in lines if line.refused},
            topics={topic: scribe.details() for topic, scribe in self._scribes.items()},
        )
        if details != self._told:
            self._told = details
            self._on_change(details)


def _ids(batch: Batch) -> list[bytes]:
    return [batch.ids[at : at + MESSAGE_ID_BYTES] for at in range(0, len(batch.ids), MESSAGE_ID_BYTES)]


def journal_folder(state: Path, topic: str) -> Path:
    """Where a topic's journal is, requests and events alike."""
    return state / "journal" / topic


def open_journals(
    project: Project, schemas: Mapping[str, RowSchema]
) -> dict[str, tuple[RowSchema | None, JournalWriter]]:
    """The journals that a project's decoy writes. schemas: the row schema of each modelling goal's topic.

    The project's journal_mb is shared equally by all topics. UsageError when another process writes one of them.
    """
    topics: dict[str, RowSchema | None] = {}
    for goal, settings in project.config.goals.items():
        for topic, modelling in settings.modelling_goals(goal).items():
            if modelling.decoy:
                topics[topic] = schemas[topic]
        topics[events_topic(goal)] = None
    serve = project.config.serve
    total = serve.journal_mb * _MIB // max(1, len(topics))
    segment = min(serve.segment_mb * _MIB, max(1, total // 4))
    opened: dict[str, tuple[RowSchema | None, JournalWriter]] = {}
    try:
        for topic, schema in topics.items():
            folder = journal_folder(project.state, topic)
            opened[topic] = (schema, JournalWriter(folder, topic, schema or RowSchema(), segment, total))
    except RdvError:
        for _, writer in opened.values():
            writer.close()
        raise
    return opened
