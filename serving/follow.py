"""Being told what a registry key says, from a thread, for as long as the process lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rdv.backends.ports import Entry, Registry
from rdv.restarts import Again, RestartPolicy, after_death

WAIT_S = 5.0
_AGAIN = RestartPolicy(first_s=0.2, ceiling_s=5.0)


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
    arguments = (registry, key, told, failed, wanted)
    thread = threading.Thread(target=_follow, args=arguments, name=f"follow {key}", daemon=True)
    thread.start()
    return thread


def _follow(
    registry: Registry,
    key: str,
    told: Callable[[Entry | None], None],
    failed: Callable[[Exception], None],
    wanted: Callable[[], bool],
) -> None:
    known: int | None = None
    failures: list[float] = []
    while wanted():
        try:
            entry = registry.get(key) if known is None else registry.watch(key, known, WAIT_S)
        except Exception as error:  # whatever the registry does, serving goes on with what is known
            failed(error)
            known = None  # it may have been replaced meanwhile, with any index
            failures = [*failures[-16:], time.monotonic()]
            again = after_death(_AGAIN, failures, failures[-1], 0.5, str(error))
            assert isinstance(again, Again)
            time.sleep(again.after_s)
            continue
        failures = []
        index = entry.index if entry else 0
        if index != known:
            known = index
            told(entry)
