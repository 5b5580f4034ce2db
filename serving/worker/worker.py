"""A worker: one process that scores for one model, follows its pointer, and never stops scoring to do so."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from rdv.backends.ports import Entry, Registry
from rdv.errors import ConfigError, Transient
from rdv.inputs import Rows, RowSchema
from rdv.records import Pin, Pointer, canary_name, decode, pointer_key
from rdv.serving.bus.port import Batch, Identity, Requests, Subscription
from rdv.serving.dial import Dialer, Seat
from rdv.serving.follow import follow
from rdv.serving.noticing import Noticing
from rdv.serving.processes.records import Refused
from rdv.serving.worker.loading import Loader
from rdv.serving.worker.pointer_file import PointerFile
from rdv.serving.worker.probe import confirm
from rdv.serving.worker.pursuit import FallBack, Load, Pursuit, Swap
from rdv.serving.worker.scoring import LoadedModel, answer, rows_of, score
from rdv.supervise import TaskOwner
from rdv.threads import in_daemon_thread, tell_loop

FIRST_NEWS_S = 2.0
LINGER_S = 2.0
_log = logging.getLogger("rdv.worker")


class WorkerDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker tells in its record.

    serial: of the release it follows, 0 when it fell back to what served last. since: epoch seconds of the last swap.
    previous: the version it could serve at once instead. refused: the last release it could not serve. gateways: those
    it is connected to; not_connected: why not, by gateway. registry: empty, or why the pointer cannot be read now;
    heard: whether it has said anything since the start.
    canary: it answers as its model's canary, not as one of its workers.
    """

    topic: str
    version: str = ""
    serial: int = 0
    digest: str = ""
    since: float = 0.0
    previous: str = ""
    loading: str = ""
    refused: Refused | None = None
    gateways: tuple[str, ...] = ()
    not_connected: dict[str, str] = {}
    registry: str = ""
    heard: bool = False
    swaps: int = 0
    canary: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """Where a replica stands: its model and name, the topic it scores for, how it notices gateways.

    pin: of a canary, see `rdv.records.Pin`.
    """

    model: str
    replica: str
    topic: str
    schema: RowSchema
    noticing: Noticing
    pin: Pin | None = None


class Worker:
    """One replica of one model."""

    def __init__(
        self,
        owner: TaskOwner,
        post: Post,
        registry: Registry,
        loader: Loader,
        on_change: Callable[[WorkerDetails], None] = lambda details: None,
        pointer: PointerFile | None = None,
    ) -> None:
        """pointer: the file that says what the registry's pointer does, where that is not watched from here."""
        self._pointer = pointer
        self._owner, self._post, self._registry, self._loader = owner, post, registry, loader
        self._on_change = on_change
        self._pursuit = Pursuit()
        self._now: LoadedModel | None = None
        self._before: LoadedModel | None = None
        self._pin = post.pin
        self._details = WorkerDetails(topic=post.topic, canary=post.pin is not None)
        self._news, self._first_news = asyncio.Event(), asyncio.Event()
        self._last: Requests | None = None
        seat = Seat(post.model, self._identity, self._serve)
        self._dialer = Dialer(owner, post.noticing, [seat], self._lines_changed)

    def start(self) -> None:
        """Begin; needs a started owner. Gateways are dialled as soon as there is a version to serve."""
        loop = asyncio.get_running_loop()
        pointer = self._pointer
        if pointer is None:
            self._watch(loop)
        elif pointer.followed:
            self._owner.task("pointer file", lambda: pointer.follow(self._told))
        else:
            pointer.look(self._told)
        self._owner.task("pointer", self._pursue)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        follow(
            self._registry,
            pointer_key(self._post.model),
            lambda entry: tell_loop(loop, self._told, entry),
            lambda error: tell_loop(loop, self._not_told, error),
            lambda: not loop.is_closed(),
        )

    async def check(self) -> str:
        """Why this worker is not well, empty when it is: its model scores a row, or nothing was ever released."""
        model, recent = self._now, self._recent()
        if model is None:
            wanted, refused = self._pursuit.wanted, self._details.refused
            if wanted is None and self._first_news.is_set():
                return ""
            return f"it cannot serve {refused.version}: {refused.reason}" if refused else "it serves nothing yet"
        if recent is not None:
            score(model, recent)
        else:
            confirm(model.info, model.predictor)
        return ""

    async def _serve(self, subscription: Subscription) -> None:
        """Answer frames for ever: all that is waiting in one predict call, by the version of that moment."""
        clock = time.monotonic
        while True:
            batches: list[Batch] = await subscription.receive()
            model = self._now
            assert model is not None
            for scores in answer(model, batches, clock(), clock):
                subscription.send(scores)
            if isinstance(batches[-1], Requests):
                self._last = batches[-1]

    def _identity(self) -> Identity:
        post = self._post
        version = self._now.version if self._now else ""
        name = canary_name(post.model) if self._details.canary else post.model
        return Identity(post.topic, name, post.replica, version, post.schema)

    def _told(self, entry: Entry | None) -> None:
        """Take in what the pointer says; a missing or unreadable one changes nothing."""
        key, error = pointer_key(self._post.model), ""
        if entry is not None:
            try:
                self._moved(decode(Pointer, entry.value, key))
            except ConfigError as unreadable:
                error = str(unreadable)
        wanted = self._pursuit.wanted
        follows = wanted is not None and self._now is not None and wanted.version == self._now.version
        self._tell(registry=error, heard=True, **({"serial": wanted.serial} if wanted is not None and follows else {}))
        self._first_news.set()
        self._news.set()

    def _moved(self, pointer: Pointer) -> None:
        """The pointer says something: a canary follows it once its release has come."""
        if self._pin is not None and pointer.serial < self._pin.serial:
            return
        if self._pin is not None:
            self._pin = None
            if self._now is None:
                self._tell(canary=False)
            elif not self._owner.stopping:
                self._owner.spawn("become a worker as any other", self._join_the_others())
        self._pursuit.moved(pointer, time.monotonic())

    async def _join_the_others(self) -> None:
        """Answer under the model's own name, after a while in which its other workers swap."""
        await asyncio.sleep(LINGER_S)
        self._tell(canary=False)
        await self._dialer.leave()
        await self._keep(self._serving())

    def _not_told(self, error: Exception) -> None:
        self._tell(registry=f"{type(error).__name__}: {error}")
        self._first_news.set()

    async def _pursue(self) -> None:
        """Follow the pointer, one step at a time."""
        await _within(FIRST_NEWS_S, self._first_news)
        if self._pin is not None and self._pursuit.wanted is None:  # what served last is no canary's business
            self._pursuit.fell_back = True
            self._pursuit.moved(Pointer(version=self._pin.version, serial=self._pin.serial), time.monotonic())
        while True:
            self._news.clear()
            now = time.monotonic()
            step = self._pursuit.step(self._now.version if self._now else "", self._loaded(), now)
            if isinstance(step, Swap):
                assert self._before is not None
                self._swap(self._before)
                await self._keep(step.version)
            elif isinstance(step, Load):
                self._pursuit.loading(now)
                await self._load(step.version)
            elif isinstance(step, FallBack):
                await self._fall_back()
            else:
                await _within(None if step.until is None else step.until - now, self._news)

    async def _load(self, version: str) -> None:
        self._tell(loading=version)
        recent = self._recent()
        try:
            loaded = await in_daemon_thread(f"load {version}", lambda: self._loader.load(version, recent))
        except Exception as error:
            self._refuse(version, error)
            return
        self._swap(loaded)
        await self._keep(version)

    async def _keep(self, version: str) -> None:
        """Have this version be the one that serves after a restart without the registry, a way back included."""
        if self._details.canary:
            return
        try:
            await in_daemon_thread(f"keep {version}", lambda: self._loader.shelf.mark_good(version))
        except OSError as error:
            _log.warning("%s will not be found after a restart without the registry: %s", version, error)

    async def _fall_back(self) -> None:
        self._pursuit.fell_back = True
        self._tell(loading="what served last")
        try:
            loaded = await in_daemon_thread("load what served last", self._loader.load_last_good)
        except Exception as error:
            _log.warning("what served last cannot be loaded: %s", error)
            loaded = None
        if loaded is not None:
            self._swap(loaded)
        else:
            self._tell(loading="")

    def _swap(self, loaded: LoadedModel) -> None:
        """Serve another version from the next frame on."""
        first = self._now is None
        self._before, self._now = self._now, loaded
        gc.collect()
        gc.freeze()
        for subscription in self._dialer.open:
            subscription.announce(loaded.version)
        if first:
            self._dialer.start()
        wanted = self._pursuit.wanted
        follows = wanted is not None and wanted.version == loaded.version
        self._tell(
            version=loaded.version,
            digest=loaded.digest,
            serial=wanted.serial if wanted is not None and follows else 0,
            previous=self._before.version if self._before else "",
            since=time.time(),
            loading="",
            swaps=self._details.swaps + (not first),
            refused=None if follows else self._details.refused,
        )
        _log.info("%s serves %s", self._post.replica, loaded.version)

    def _refuse(self, version: str, error: Exception) -> None:
        """Go on with what is served, and say why."""
        self._pursuit.failed(version, str(error), isinstance(error, Transient), time.monotonic())
        failure = self._pursuit.failure
        assert failure is not None
        reason = str(error) or type(error).__name__
        refused = Refused(version=version, serial=failure.serial, reason=reason, at=time.time(), tries=failure.count)
        self._tell(loading="", refused=refused)
        _log.warning("%s cannot serve %s and goes on with %s: %s", self._post.replica, version, self._serving(), reason)

    def _serving(self) -> str:
        return self._now.version if self._now else "nothing"

    def _loaded(self) -> list[str]:
        return [one.version for one in (self._now, self._before) if one is not None]

    def _recent(self) -> Rows | None:
        return None if self._last is None else rows_of([self._last], len(self._post.schema.numbers))

    def _lines_changed(self) -> None:
        lines = self._dialer.lines.values()
        self._tell(
            gateways=tuple(sorted(line.gateway for line in lines if line.connected)),
            not_connected={line.gateway: line.refused for line in lines if line.refused},
        )

    def _tell(self, **changes: object) -> None:
        details = msgspec.structs.replace(self._details, **changes)
        if details != self._details:
            self._details = details
            self._on_change(details)


async def _within(seconds: float | None, event: asyncio.Event) -> None:
    """Wait for an event, at most so long (None: for ever)."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
