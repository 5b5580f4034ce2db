"""TCP ports on 127.0.0.1 that nobody else who asks here gets, until they are given back."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rdv.errors import RdvError

# Below Linux's range of ephemeral ports, so that no outgoing connection takes one between two starts of a server.
_FIRST, _END = 10000, 20000
_TRIES = 500
# tasks get ports from 20000 on, and a person's cluster those from 30000 on; outgoing connections those from 32768 on
_TASKS_END, _TASK_RANGE = 30000, 200


class Ports:
    """Some free ports, held while this object is open and free again when its process ends, however it ends.

    A port is held by a name in the kernel (an abstract unix socket), not by listening on it: the server must do that.
    """

    def __init__(self, count: int = 0, wanted: Sequence[int] = ()) -> None:
        """count: how many. wanted: these, each where it is free, else another one."""
        self._holds = ExitStack()
        self.numbers: tuple[int, ...] = ()
        try:
            self.numbers = tuple(self._take(port) or self._hold() for port in wanted or [0] * count)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the ports back."""
        self._holds.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hold(self) -> int:
        for _ in range(_TRIES):
            if port := self._take(random.randrange(_FIRST, _END)):
                return port
        raise RdvError(f"no free port between {_FIRST} and {_END}", "see `ss -ltn` for who listens")

    def _take(self, port: int) -> int:
        """The port when it is free and nobody else's, else 0."""
        if port and (name := hold_name(f"rdv-port-{port}")):
            if is_free(port):
                self._holds.callback(name.close)
                return port
            name.close()
        return 0


class TaskPorts:
    """A range of ports for the tasks of one Nomad cluster, above those of `Ports`, held in the same way."""

    def __init__(self) -> None:
        for first in random.sample(range(_END, _TASKS_END, _TASK_RANGE), (_TASKS_END - _END) // _TASK_RANGE):
            if name := hold_name(f"rdv-task-ports-{first}"):
                self._name, self.first, self.last = name, first, first + _TASK_RANGE - 1
                return
        raise RdvError("every range of ports for tasks is taken", "end other clusters: `rdv dev-cluster down`")

    def close(self) -> None:
        """Give the range back."""
        self._name.close()


def hold_name(name: str) -> socket.socket | None:
    """A name in the kernel that is this process's until it is closed; None when somebody has it."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0{name}")
    except OSError:
        held.close()
        return None
    return held


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of 127.0.0.1, for TCP and for UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            # as servers do it: a connection of an earlier server that lingers does not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
