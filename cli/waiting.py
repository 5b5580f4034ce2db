"""Waiting until a project serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from rdv.errors import TimedOut, Unreachable

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.serving.status import ServingStatus

LOOK_S = 0.05
ANSWER_S = 2.0


def ready_status(project: Project, wait_s: float, check: Callable[[], None] = lambda: None) -> ServingStatus:
    """The status once every gateway says that it is ready, or as it is when wait_s is 0.

    Ready: a score has gone round the bus. check: called at every look; what it raises ends the waiting. Raises
    Unreachable when no gateway answers, TimedOut after wait_s.
    """
    from rdv.serving.status import read_status

    until = time.monotonic() + wait_s
    while True:
        check()
        try:
            found = read_status(project)
            if not wait_s or all(is_ready(view) for view in found.gateways):
                return found
        except Unreachable:
            if time.monotonic() >= until:
                raise
        if time.monotonic() >= until:
            raise TimedOut(f"no gateway was ready after {wait_s:g} s", "see `rdv status` and the log of `rdv serve`")
        time.sleep(LOOK_S)


def is_ready(view: dict[str, Any]) -> bool:
    """Whether a gateway's own readiness check succeeds."""
    try:
        with urlopen(f"{view['url']}/readyz", timeout=ANSWER_S) as reply:
            return bool(reply.status == 200)
    except (HTTPError, URLError, TimeoutError, ConnectionError):
        return False
