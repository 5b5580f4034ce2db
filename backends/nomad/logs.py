"""A step's output from its allocations, followed over restarts: in one allocation, and from one to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from rdv.backends.nomad.api import NomadApi
from rdv.backends.nomad.verdict import TASK
from rdv.errors import NotFound, Unreachable

_LOOK_S = 0.2
_NODE_S = 60.0
"""How long a log may be out of reach (a server or a node that restarts) before following it ends with that."""


def chunks(api: NomadApi, job: str, ended: Callable[[], bool] | None) -> Iterator[bytes]:
    """What a job has written; with `ended`, also what comes, until that is true and all is read.

    Allocations are read in the order in which they were made, each to its end. A log that has grown past what a node
    keeps (100 MB) is read from where it begins now.
    """
    read: dict[str, int] = {}
    until = time.monotonic() + _NODE_S
    while True:
        try:
            over = ended is None or ended()  # asked before the read, so that what precedes the end is read after it
            for allocation in _in_order(api, job):
                for data in api.log(allocation, TASK, read.get(allocation, 0)):
                    read[allocation] = read.get(allocation, 0) + len(data)
                    yield data
        except Unreachable:
            if ended is None or time.monotonic() > until:
                raise
            over = False
        else:
            until = time.monotonic() + _NODE_S
        if over:
            return
        time.sleep(_LOOK_S)


def _in_order(api: NomadApi, job: str) -> list[str]:
    try:
        found = api.allocations(job)[1]
    except NotFound:  # purged, and its logs with it
        return []
    return [one["ID"] for one in sorted(found, key=lambda one: int(one["CreateIndex"]))]
