"""Being told what a registry key, or anything else with an index, says now: from a thread, again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from rdv.backends.ports import Entry, Registry
from rdv.restarts import Again, RestartPolicy, after_death

WAIT_S = 5.0
_AGAIN = RestartPolicy(first_s=0.2, ceiling_s=5.0)
Seen = TypeVar("Seen")


def follow(
    registry: Registry,
    key: str,
    told: Callable[[Entry | None], None],
    failed: Callable[[Exception], None],
    wanted: Callable[[], bool] = lambda: True,
) -> threading.Thread:
    """A daemon thread that calls `told` with the key's entry now and after every change, `failed` when it cannot know.

    All are called in the thread. `failed` is called at each failed look, with a growing pause between them; the looks
    go on until `wanted`, asked every few seconds, says no.
    """

    def look(known: int | None) -> tuple[Entry | None, int]:
        entry = registry.get(key) if known is None else registry.watch(key, known, WAIT_S)
        return entry, entry.index if entry else 0

    arguments = (look, told, failed, wanted)
    thread = threading.Thread(target=keep_looking, args=arguments, name=f"follow {key}", daemon=True)
    thread.start()
    return thread


def keep_looking(
    look: Callable[[int | None], tuple[Seen, int]],
    told: Callable[[Seen], None],
    failed: Callable[[Exception], None],
    wanted: Callable[[], bool],
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Call `told` with what there is now and after every change, `failed` at each failed look, while it is wanted.

    look: what there is and its index, as soon as that is another than the one given or after a while; None: at once.
    """
    known: int | None = None
    failures: list[float] = []
    while wanted():
        try:
            seen, index = look(known)
        except Exception as error:  # whatever a server does, serving goes on with what is known
            failed(error)
            known = None  # it may have been replaced meanwhile, with any index
            failures = [*failures[-16:], time.monotonic()]
            again = after_death(_AGAIN, failures, failures[-1], 0.5, str(error))
            assert isinstance(again, Again)
            pause(again.after_s)
            continue
        failures = []
        if index != known:
            known = index
            told(seen)
