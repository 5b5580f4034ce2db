"""Unix sockets at any depth, for this user only."""

import stat
import time
from pathlib import Path

import pytest

from rdv.errors import Unreachable, UsageError
from rdv.sockets import bound_unix_socket, connected_unix_socket, remove_stale_sockets


def test_deep_paths_work(tmp_path: Path) -> None:
    """A path far beyond 107 bytes can be bound and connected to, and the socket is 0600."""
    path = tmp_path / ("d" * 150) / ("e" * 150) / "bus.sock"
    with bound_unix_socket(path) as listener, connected_unix_socket(path) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        listener.setblocking(True)
        server, _ = listener.accept()
        with server:
            server.sendall(b"hi")
            client.setblocking(True)
            assert client.recv(2) == b"hi"


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    """A socket file that a dead process left is no obstacle."""
    path = tmp_path / "bus.sock"
    bound_unix_socket(path).close()
    with pytest.raises(Unreachable, match="nobody listens"):
        connected_unix_socket(path)
    with bound_unix_socket(path), connected_unix_socket(path):
        pass


def test_living_listener_is_kept(tmp_path: Path) -> None:
    """A socket somebody listens on is not taken away, even when its backlog is full."""
    path = tmp_path / "bus.sock"
    with bound_unix_socket(path, backlog=0), connected_unix_socket(path):
        for _ in range(2):
            with pytest.raises(UsageError, match="another process listens"):
                bound_unix_socket(path)


def test_other_files_are_kept(tmp_path: Path) -> None:
    """A file that is no socket is never removed."""
    path = tmp_path / "bus.sock"
    path.write_text("precious")
    with pytest.raises(UsageError, match="not a socket"):
        bound_unix_socket(path)
    assert path.read_text() == "precious"


def test_missing_folder_is_unreachable(tmp_path: Path) -> None:
    """Connecting into a folder that does not exist is an unreachable listener, not a crash."""
    with pytest.raises(Unreachable):
        connected_unix_socket(tmp_path / "absent" / "bus.sock")


def test_stale_sockets_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeping a folder removes sockets without a listener, but neither living nor brand-new ones nor other files."""
    stale, young, living = tmp_path / "stale.sock", tmp_path / "young.sock", tmp_path / "living.sock"
    bound_unix_socket(stale).close()
    (tmp_path / "other.sock").write_text("precious")
    now = time.time()
    with bound_unix_socket(living):
        bound_unix_socket(young).close()
        assert remove_stale_sockets(tmp_path) == []
        monkeypatch.setattr(time, "time", lambda: now + 5.0)
        assert remove_stale_sockets(tmp_path) == [stale, young]
        assert living.exists()
        assert remove_stale_sockets(tmp_path / "absent") == []
