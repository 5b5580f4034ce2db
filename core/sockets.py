"""Unix sockets at paths of any length, 0600 from their first moment.

AF_UNIX names are limited to 107 bytes and projects can lie deep, so the name that the kernel sees is
`/proc/self/fd/<folder>/<file>`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from rdv.errors import Unreachable, UsageError

OWNER_ONLY = 0o600


def bound_unix_socket(path: Path, backlog: int = 128) -> socket.socket:
    """A listening, non-blocking unix socket at a path; only this user may connect.

    A socket file that nobody listens on is replaced. UsageError when somebody does, or the path is another file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _short_name(path) as name:
        _remove_stale(path, name)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            os.fchmod(sock.fileno(), OWNER_ONLY)  # bind makes the file with the socket's own mode
            sock.bind(name)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
    return sock


def connected_unix_socket(path: Path) -> socket.socket:
    """A non-blocking unix socket that is connected to the listener at a path; Unreachable when there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _short_name(path) as name:
            sock.connect(name)
    except OSError as error:
        sock.close()
        raise Unreachable(f"nobody listens on {path}: {error.strerror}", "see `rdv status`") from error
    return sock


def remove_stale_sockets(folder: Path) -> list[Path]:
    """Remove the sockets in a folder that nobody listens on any more, and return them.

    Sockets younger than a second stay: their owner may be about to listen.
    """
    removed = []
    for path in sorted(folder.glob("*.sock")) if folder.is_dir() else ():
        try:
            if path.is_socket() and time.time() - path.stat().st_ctime > 1.0:
                with _short_name(path) as name:
                    if not _listened_on(name):
                        path.unlink()
                        removed.append(path)
        except FileNotFoundError:
            continue  # somebody else removed it
    return removed


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _remove_stale(path: Path, name: str) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise UsageError(f"{path} exists and is not a socket", "move it away")
    if _listened_on(name):
        raise UsageError(f"another process listens on {path}", "stop it first, see `rdv status`")
    path.unlink(missing_ok=True)


def _listened_on(name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True  # its backlog is full
    return True
