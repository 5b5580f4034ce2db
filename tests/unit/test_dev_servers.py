"""What starting real servers needs: ports of one's own, programs, a clean environment, a group that ends."""

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.ports import Ports, is_free
from rdv.backends.devcluster.programs import clean_environment, find_program, servers_folder
from rdv.errors import NotFound, RdvError, TimedOut

CHILD = """
import os, signal, subprocess, sys, time
subprocess.Popen(["sleep", "1000"])
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(1000)
"""


def started(folder: Path, kind: str, stop_s: float = 20.0) -> ServerProcess:
    """A server that has a child of its own, and is up."""
    server = ServerProcess("toy", [sys.executable, "-c", CHILD, kind], os.environ, folder / "log", stop_s=stop_s)
    server.start()
    server.until(lambda: "up" in server.tail(), "up")
    return server


def group(leader: int) -> list[int]:
    """Live processes of a group; what was killed and waits to be reaped is none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == leader and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


def is_gone(leader: int) -> bool:
    """Whether a group comes to nothing; a process takes a moment to die of SIGKILL."""
    until = time.monotonic() + 20
    while group(leader):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_ports_are_given_once() -> None:
    """Ports that are held are given to nobody else, are free to listen on, and come back when given back."""
    with Ports(40) as mine, Ports(40) as yours:
        assert len({*mine.numbers, *yours.numbers}) == 80
        with socket.socket() as server:
            server.bind(("127.0.0.1", mine.numbers[0]))
            server.listen()
            assert not is_free(mine.numbers[0])
        name = f"\0rdv-port-{mine.numbers[0]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as free:
        free.bind(name)


@pytest.mark.parametrize("kind", ["polite", "stubborn"])
def test_a_server_ends_with_its_group(tmp_path: Path, kind: str) -> None:
    """Stopping ends the server, hard when it will not, and everything that it started; twice is fine."""
    server = started(tmp_path, kind, 20.0 if kind == "polite" else 0.2)
    leader = server.pid
    assert len(group(leader)) == 2
    assert server.stop() == (-signal.SIGTERM if kind == "polite" else -signal.SIGKILL)
    assert is_gone(leader)
    assert server.stop() == 0


def test_a_frozen_server_can_be_stopped(tmp_path: Path) -> None:
    """A server that was frozen ends politely all the same."""
    server = started(tmp_path, "polite")
    server.freeze()
    assert server.stop() == -signal.SIGTERM


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    """Waiting for a server that ended, or takes too long, raises with the end of its log."""
    server = ServerProcess("toy", [sys.executable, "-c", "raise SystemExit('no disk')"], os.environ, tmp_path / "log")
    server.start()
    with pytest.raises(RdvError, match="no disk"):
        server.until(lambda: False, "ready")
    server.stop()
    slow = started(tmp_path, "polite")
    with pytest.raises(TimedOut, match="toy: not ready"):
        slow.until(lambda: False, "ready", 0.1)
    slow.stop()


def test_programs_are_found(tmp_path: Path) -> None:
    """A program is the one that was built, else the one on the PATH, else NotFound with the remedy."""
    other = tmp_path / "path"
    for folder in (tmp_path / "servers" / "bin", other):
        folder.mkdir(parents=True)
        (folder / "consul").touch(0o755)
    environ = {"RDV_SERVERS": str(tmp_path / "servers"), "PATH": str(other)}
    assert find_program("consul", environ) == tmp_path / "servers" / "bin" / "consul"
    assert find_program("consul", {**environ, "RDV_SERVERS": str(tmp_path)}) == other / "consul"
    with pytest.raises(NotFound, match="make servers"):
        find_program("nomad", environ)
    assert servers_folder({"HOME": "/h"}) == Path("/h/.cache/rdv/servers")
    assert clean_environment({"PATH": "/bin", "HTTP_PROXY": "x", "AWS_CA_BUNDLE": "y"}) == {"PATH": "/bin"}
