"""TCP ports on 127.0.0.1 that nobody else who asks here gets, until they are given back."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rdv.errors import RdvError

# Below Linux's range of ephemeral ports, so that no outgoing connection takes one between two starts of a server.
_FIRST, _END = 10000, 20000
_TRIES = 500


class Ports:
    """Some free ports, held while this object is open and free again when its process ends, however it ends.

    A port is held by a name in the kernel (an abstract unix socket), not by listening on it: the server must do that.
    """

    def __init__(self, count: int) -> None:
        self._holds = ExitStack()
        self.numbers: tuple[int, ...] = ()
        try:
            self.numbers = tuple(self._hold() for _ in range(count))
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
            port = random.randrange(_FIRST, _END)
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                name.bind(f"\0rdv-port-{port}")
                if is_free(port):
                    self._holds.callback(name.close)
                    return port
            except OSError:
                pass
            name.close()
        raise RdvError(f"no free port between {_FIRST} and {_END}", "see `ss -ltn` for who listens")


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
