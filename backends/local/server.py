"""The dispatcher's end of its fork server: the process, the socket, and the one thread that reads from it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence

from rdv.backends.local.messages import MESSAGE_BYTES, Cancel, Ended, Run, Running, encode, from_server
from rdv.processes import how_it_ended

_END_S = 10.0
_ERROR_BYTES = 2000


class Server:
    """A running fork server. `on_message` and then, once, `on_death` are called in its reading thread."""

    def __init__(
        self,
        lock_fd: int,
        preload: Sequence[str],
        cgroups: bool,
        on_message: Callable[[Running | Ended], None],
        on_death: Callable[[Server, str], None],
    ) -> None:
        """lock_fd: kept open by the server, so that locks last until it has ended what they stand for."""
        self._on_message, self._on_death = on_message, on_death
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the server
        module = "rdv.backends.local.forkserver"
        mode = "--cgroup" if cgroups else "--sample"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), mode, *preload],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=(theirs.fileno(), lock_fd),
                start_new_session=True,
            )
        except OSError:
            self._socket.close()
            self._errors.close()
            raise
        finally:
            theirs.close()
        self._reader = threading.Thread(target=self._read, name="rdv-cluster-reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The fork server's process id."""
        return self._process.pid

    def send(self, message: Run | Cancel) -> None:
        """Hand a message over; OSError when the server is gone, which `on_death` tells as well."""
        self._socket.send(encode(message))

    def close(self) -> None:
        """Have the server end its steps and itself, and wait for that."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(_END_S)

    def _read(self) -> None:
        while data := self._receive():
            self._on_message(from_server.decode(data))
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._socket.close()
        self._on_death(self, self._last_words(code))

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(MESSAGE_BYTES)
        except OSError:
            return b""

    def _last_words(self, code: int) -> str:
        with self._errors as file:
            file.seek(max(0, file.seek(0, 2) - _ERROR_BYTES))
            text = file.read().decode(errors="replace").strip()
        return how_it_ended(code) + (f": {text.splitlines()[-1]}" if text else "")
