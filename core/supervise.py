"""Where asyncio tasks are born, who owns them, what their death means, and in which order a process stops.

A `TaskOwner` holds a process's (or a component's) named tasks. A task that dies is restarted under its policy or
brings the owner down; stopping is one ordered list: close the intake, drain, cancel, flush, close the stack.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from rdv.clock import Clock, SystemClock
from rdv.errors import Interrupted, RdvError
from rdv.restarts import Again, RestartPolicy, after_death, recent

T = TypeVar("T")
Body = Callable[[], Coroutine[Any, Any, None]]
Step = Callable[[], Awaitable[None] | None]

_log = logging.getLogger("rdv.supervise")
_CANCEL_S = 5.0


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """What happened to a task or a stop step. kind: `restarting`, `died`, `stopping`, `overrun` or `failed`."""

    owner: str
    name: str
    kind: str
    reason: str


def log_event(event: TaskEvent) -> None:
    """Write an event to the log, one line."""
    level = logging.INFO if event.kind == "stopping" else logging.WARNING
    _log.log(level, "%s: %s %s: %s", event.owner, event.name, event.kind, event.reason)


def handle(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task for one request, which deals with every error of its own and is owned by whoever keeps it.

    It has no name of its own: there are thousands of them a second.
    """
    return loop.create_task(work)


class TaskOwner:
    """Named tasks that live and end together, and the ordered stop of whatever they belong to.

    Register tasks and stop steps, then `await run()`; or `async with owner:` where something else waits. `stop` may
    come before the start, twice, and from another thread. `stack` closes last, in reverse order of entering.
    """

    def __init__(
        self,
        name: str,
        *,
        drain_s: float = 10.0,
        flush_s: float = 10.0,
        signals: bool = False,
        report: Callable[[TaskEvent], None] = log_event,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """drain_s: for all drain steps together. flush_s: for each flush step. signals: SIGTERM and SIGINT stop

        (the second one aborts); only in the main thread.
        """
        self.name, self.drain_s, self.flush_s = name, drain_s, flush_s
        self.stack = AsyncExitStack()
        self.reason = ""
        self._signals, self._report, self._chance = signals, report, chance
        self._clock: Clock = clock or SystemClock()
        self._bodies: list[tuple[str, Body, RestartPolicy | None]] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._intake: list[tuple[str, Step]] = []
        self._drain: list[tuple[str, Step]] = []
        self._flush: list[tuple[str, Step]] = []
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._aborting = False
        self._draining: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None
        self._death: BaseException | None = None

    @property
    def stopping(self) -> bool:
        """Whether a stop has been asked for (or a death asked for it)."""
        return self._stopping.is_set()

    def task(self, name: str, body: Body, restart: RestartPolicy | None = None) -> None:
        """Keep a task running for as long as the owner runs; `body` is called anew at each start.

        Raising or returning is its death: it starts again under `restart`, or without one (or when that gives up)
        brings the owner down.
        """
        self._refuse_when_stopping(name)
        if self._loop is None:
            self._bodies.append((name, body, restart))
        else:
            self._adopt(name, self._keep(name, body, restart))

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something once, owned; returning is fine, raising brings the owner down. Needs a started owner."""
        if self._loop is None or self.stopping:
            work.close()
            self._refuse_when_stopping(name)
            raise RdvError(f"{self.name} has not started, so it cannot run {name}", "start the owner first")
        return self._adopt(name, self._once(name, work))

    def on_stop(
        self, name: str, *, intake: Step | None = None, drain: Step | None = None, flush: Step | None = None
    ) -> None:
        """Add steps to the stop: intake ones run first, in order; drain ones together, up to drain_s or an abort;

        then tasks are cancelled; flush ones run in order, whatever cancels the caller meanwhile. A step that fails
        or overruns is reported and the stop goes on.
        """
        for steps, step in ((self._intake, intake), (self._drain, drain), (self._flush, flush)):
            if step is not None:
                steps.append((name, step))

    def stop(self, reason: str) -> None:
        """Ask for the ordered stop; the first reason stays. From any thread, any number of times, also before start."""
        self._ask(reason, abort=False)

    def abort(self, reason: str) -> None:
        """Ask for the stop without waiting for the drain; flush steps still run, each up to flush_s."""
        self._ask(reason, abort=True)

    async def start(self) -> None:
        """Start the registered tasks, unless a stop came first."""
        with self._guard:
            self._loop = asyncio.get_running_loop()
        if self._signals:
            self._listen(True)
        bodies, self._bodies = self._bodies, []
        if not self.stopping:
            for name, body, restart in bodies:
                self._adopt(name, self._keep(name, body, restart))

    async def run(self) -> str:
        """Start, wait for a stop or a death, stop in order. Returns the reason, or raises what the dead task raised."""
        async with self:
            await self.stopped()
        return self.reason

    async def stopped(self) -> None:
        """Return as soon as a stop has been asked for."""
        await self._stopping.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.stop("cancelled")
        self.stop("its block ended" if error is None else f"{type(error).__name__}: {error}")
        await self.close()
        if self._death is not None and error is None:
            raise self._death

    async def close(self) -> None:
        """Carry out the ordered stop, once; every caller returns when it is done.

        A caller that is cancelled meanwhile cuts the drain short, sees the stop through and is cancelled then.
        """
        self.stop("closed")
        if self._closing is None:
            self._closing = asyncio.create_task(self._stop_in_order(), name=f"{self.name}/stop")
        cancelled = False
        while not self._closing.done():
            try:
                await asyncio.shield(self._closing)
            except asyncio.CancelledError:
                cancelled = True
                self.abort("cancelled while stopping")
        self._closing.result()
        if cancelled:
            raise asyncio.CancelledError

    def _ask(self, reason: str, abort: bool) -> None:
        with self._guard:
            self.reason = self.reason or reason
            loop = self._loop
            if loop is None:
                self._mark(abort)
                return
        try:
            inside = asyncio.get_running_loop() is loop
        except RuntimeError:
            inside = False
        if inside:
            self._mark(abort)
        elif not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._mark, abort)
            except RuntimeError:
                return  # closed between the look and the call: there is nothing left to stop

    def _mark(self, abort: bool) -> None:
        if not self._stopping.is_set():
            self._report(TaskEvent(self.name, "owner", "stopping", self.reason))
            self._stopping.set()
        if abort and not self._aborting:
            self._aborting = True
            for task in self._draining:
                task.cancel()

    def _refuse_when_stopping(self, name: str) -> None:
        if self.stopping:
            raise Interrupted(f"{self.name} is stopping ({self.reason}), so it does not start {name}")

    def _adopt(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=f"{self.name}/{name}")
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # the owner has dealt with it: nobody else has to retrieve it

    async def _once(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._die(name, error)
            raise

    async def _keep(self, name: str, body: Body, restart: RestartPolicy | None) -> None:
        deaths: list[float] = []
        while True:
            error = await self._live(name, body)
            now = self._clock.monotonic()
            deaths = [*recent(restart, deaths, now), now] if restart else []
            if self.stopping:
                return
            if restart is None:
                return self._die(name, error)
            cause = f"{type(error).__name__}: {error}"
            decision = after_death(restart, deaths, now, self._chance(), cause)
            if not isinstance(decision, Again):
                error.add_note(decision.reason)
                return self._die(name, error)
            self._report(TaskEvent(self.name, name, "restarting", decision.reason))
            await asyncio.sleep(decision.after_s)

    async def _live(self, name: str, body: Body) -> BaseException:
        """How the body ended; a cancellation by the owner passes through."""
        try:
            await body()
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            return error  # something the body awaited was cancelled by somebody else: that is a death
        except BaseException as error:  # a task's KeyboardInterrupt or SystemExit ends the owner too
            return error
        return RdvError(f"task {name} of {self.name} returned although it should run until the stop")

    def _die(self, name: str, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"
        self._report(TaskEvent(self.name, name, "died", reason))
        if self._death is None:
            error.add_note(f"task {name} of {self.name}")
            self._death = error
        self.stop(f"task {name} died: {reason}")

    async def _stop_in_order(self) -> None:
        for name, step in self._intake:
            await self._step(name, step, self.flush_s)
        await self._drained()
        await self._cancel_all()
        for name, step in self._flush:
            await self._step(name, step, self.flush_s)
        try:
            await self.stack.aclose()
        finally:
            if self._signals:
                self._listen(False)

    async def _drained(self) -> None:
        if not self._drain or self._aborting:
            return
        self._draining = [
            asyncio.create_task(self._step(name, step, None), name=f"{self.name}/drain/{name}")
            for name, step in self._drain
        ]
        _, late = await asyncio.wait(self._draining, timeout=self.drain_s)
        for task in late:
            self._report(TaskEvent(self.name, task.get_name(), "overrun", f"not drained in {self.drain_s:g} s"))
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_CANCEL_S)

    async def _cancel_all(self) -> None:
        tasks = list(self._tasks)
        for task in reversed(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_S)
        for task in tasks:
            if not task.done():
                self._report(TaskEvent(self.name, task.get_name(), "overrun", f"ignored its end for {_CANCEL_S:g} s"))

    async def _step(self, name: str, step: Step, limit_s: float | None) -> None:
        try:
            async with asyncio.timeout(limit_s):
                result = step()
                if result is not None:
                    await result
        except TimeoutError:
            self._report(TaskEvent(self.name, name, "overrun", f"took longer than {limit_s or 0:g} s"))
        except Exception as error:  # the rest of the stop matters more than this step
            self._report(TaskEvent(self.name, name, "failed", f"{type(error).__name__}: {error}"))

    def _listen(self, on: bool) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            if on:
                loop.add_signal_handler(number, self._signalled, number)
            else:
                loop.remove_signal_handler(number)

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if self.stopping:
            self.abort(f"{name} again")
        else:
            self.stop(name)
