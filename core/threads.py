"""Blocking work beside an event loop, in threads that never hold up the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def tell_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    """Have a loop call a function, from another thread; a loop that has ended is fine."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


async def in_daemon_thread(name: str, work: Callable[[], T]) -> T:
    """What blocking work returns or raises. Cancelling the wait leaves the work to end by itself."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(result)  # type: ignore[arg-type]
        else:
            outcome.set_exception(error)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            tell_loop(loop, settle, None, error)
        else:
            tell_loop(loop, settle, result, None)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await outcome
