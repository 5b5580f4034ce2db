"""The servers that are measured, each as a process started and ended here: ours, FastAPI's, our own edge's echo."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import case
import msgspec
from case import PATH, model_text

if TYPE_CHECKING:
    from project import BenchProject

START_S, STOP_S = 30.0, 20.0
PEERS = Path(__file__).parent / "peers"
RDV = str(Path(sys.executable).with_name("rdv"))


class Server(msgspec.Struct, frozen=True):
    """Where a server listens and what to send it."""

    name: str
    port: int
    path: str
    bodies: Path
    pid: int


def wait_until(true: Callable[[], bool], what: str, limit_s: float = START_S) -> None:
    """Return as soon as something is true; TimeoutError saying what was awaited."""
    end_s = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.02)


def get(port: int, path: str) -> int:
    """The status of a GET, 0 when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@contextmanager
def started(
    command: list[str], folder: Path, log: IO[bytes], stdout: int | IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, asked to stop at the end and killed when it does not."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RDV_")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=stdout,
        stderr=log,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def peer(program: str, arguments: list[str], folder: Path, path: str, bodies: Path) -> Iterator[Server]:
    """One of the programs in `peers`, which print `port N` once they listen."""
    with (
        (folder / f"{program}.log").open("wb") as log,
        started([sys.executable, str(PEERS / program), *arguments], folder, log, subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        if not line.startswith("port "):
            raise RuntimeError(f"{program} did not start: {(folder / f'{program}.log').read_text()[-2000:]}")
        port = int(line.split()[1])
        wait_until(lambda: get(port, "/openapi.json") != 0, f"{program} answers")
        yield Server(program, port, path, bodies, process.pid)


@contextmanager
def fastapi(folder: Path) -> Iterator[Server]:
    """FastAPI with one model, validating the same schema."""
    (folder / "schema.json").write_text(json.dumps(case.schema()))
    (folder / "champion.txt").write_text(model_text(1))
    bodies, _ = case.write_bodies(folder)
    with peer("fastapi_server.py", ["schema.json", "champion.txt"], folder, "/score", bodies) as server:
        yield server


@contextmanager
def echo(folder: Path) -> Iterator[Server]:
    """Our own HTTP edge, answering a constant."""
    bodies, _ = case.write_bodies(folder)
    with peer("echo_server.py", [], folder, PATH, bodies) as server:
        yield server


@contextmanager
def rdv_serve(project: BenchProject) -> Iterator[Server]:
    """`rdv serve` of a project, once a score of every model has gone round."""
    log_file = project.folder / "serve.log"
    with log_file.open("wb") as log, started([RDV, "serve"], project.folder, log, log) as process:

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"`rdv serve` ended: {log_file.read_text()[-2000:]}")
            return get(project.port, "/readyz") == 200

        try:
            wait_until(ready, "the gateway is ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {log_file.read_text()[-2000:]}") from None
        yield Server("rdv", project.port, PATH, project.bodies, process.pid)


@contextmanager
def ours(bus: Callable[[Path], str] = lambda folder: "frames:") -> Iterator[tuple[BenchProject, Server]]:
    """A fresh project in a temporary folder, served. bus: puts there what a bus needs, and returns its setting."""
    from project import BenchProject

    with tempfile.TemporaryDirectory(prefix="rdv-bench-") as folder:
        project = BenchProject(Path(folder), bus(Path(folder)))
        with rdv_serve(project) as server:
            yield project, server


@contextmanager
def temporary_peer(start: Callable[[Path], object]) -> Iterator[Server]:
    """A peer in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="rdv-bench-peer-") as folder, start(Path(folder)) as server:  # type: ignore[attr-defined]
        yield server
