"""A private package index, a real one, on this machine."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY_S = 60.0


@dataclass
class Index:
    """A private index on this machine that takes uploads from one user."""

    url: str
    folder: Path
    password: str

    def environment(self, password: str = "") -> dict[str, str]:
        """The variables by which an upload reaches it."""
        mine = {"TWINE_REPOSITORY_URL": self.url, "TWINE_USERNAME": "ci", "TWINE_PASSWORD": password or self.password}
        return {**{k: v for k, v in os.environ.items() if not k.startswith("CI_")}, **mine}


@contextmanager
def index_server(tmp_path: Path) -> Iterator[Index]:
    """A running index with nothing in it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    made = Index(f"http://127.0.0.1:{port}/", tmp_path / "packages", secrets.token_hex(8))
    made.folder.mkdir()
    # the server reads Apache's files; a password in the oldest form needs no further library
    program = (
        "import pypiserver, sys; from wsgiref.simple_server import make_server; "
        "app = pypiserver.app(roots=[sys.argv[1]], authenticate=['update'], password_file='.', "
        "auther=lambda user, password: (user, password) == ('ci', sys.argv[3])); "
        "make_server('127.0.0.1', int(sys.argv[2]), app).serve_forever()"
    )
    argv = [sys.executable, "-P", "-c", program, str(made.folder), str(port), made.password]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + READY_S
        while not answers(made.url):
            assert process.poll() is None, "the index ended"
            assert time.monotonic() < until, "the index does not answer"
            time.sleep(0.05)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
