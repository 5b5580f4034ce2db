"""Checks of this machine: interpreter, libraries, limits, clocks, sockets."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rdv.cli.doctor.findings import Finding, judge, run, skipped

OLDEST_PYTHON = (3, 11)
FREE_DESCRIPTORS = 1_024
CLOCK_SAMPLE_S = 0.05
CLOCK_DRIFT_S = 0.02
MEMORY_MB = 1_024
EXTRAS = {"catboost": "catboost", "pyarrow": "parquet", "statsmodels": "demo"}


def checks() -> Iterator[Finding]:
    """Every check of the machine, one after the other."""
    every: dict[str, Callable[[], Finding]] = {
        "python": python,
        "libraries": libraries,
        "libgomp": libgomp,
        "lightgbm": lightgbm,
        "extras": extras,
        "memory": memory,
        "file descriptors": descriptors,
        "clocks": clocks,
        "processes": processes,
        "unix sockets": unix_sockets,
        "loopback": loopback,
    }
    for name, look in every.items():
        yield run(name, look)


def python() -> Finding:
    """Whether the interpreter is new enough, and the system one that rdv knows."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= OLDEST_PYTHON and sys.platform == "linux"
    return judge("python", good, f"{version} on {sys.platform}", "use Python 3.11 or newer on Linux")


def libraries() -> Finding:
    """Whether everything that rdv requires is installed in the versions that it requires."""
    from importlib.metadata import PackageNotFoundError, requires, version

    missing = []
    for line in requires("rdv") or []:
        if "extra ==" not in line:
            name, _, least = line.partition(">=")
            try:
                if _numbers(version(name)) < _numbers(least):
                    missing.append(f"{name} {version(name)} is older than {least}")
            except PackageNotFoundError:
                missing.append(f"{name} is missing")
    return judge("libraries", not missing, "; ".join(missing) or "all there", "type: pip install --upgrade rdv")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def libgomp() -> Finding:
    """Whether the system has the OpenMP library that LightGBM's wheel loads."""
    import ctypes

    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError as error:
        return judge("libgomp", False, str(error), "on Debian type: apt-get install -y libgomp1")
    return judge("libgomp", True, "libgomp.so.1 loads", "")


def lightgbm() -> Finding:
    """Whether LightGBM's shared library is where serving calls it directly."""
    from importlib.metadata import version

    from rdv.flavours_lightgbm import library_path

    path = library_path()
    found = f"{version('lightgbm')}, {'called directly' if path else 'called through its Python interface, slower'}"
    return judge("lightgbm", path is not None, found, "type: pip install --force-reinstall lightgbm")


def extras() -> Finding:
    """Which optional libraries are there; a project that needs a missing one is told so by its own check."""
    from importlib.util import find_spec

    missing = [f"{name} (pip install 'rdv[{extra}]')" for name, extra in EXTRAS.items() if find_spec(name) is None]
    if missing:
        return skipped("extras", f"not installed: {', '.join(missing)}")
    return judge("extras", True, f"{', '.join(EXTRAS)} are installed", "")


def memory() -> Finding:
    """Whether a training step of the smaller classes finds room."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free_mb = int(lines["MemAvailable"].split()[0]) // 1024
    return judge("memory", free_mb >= MEMORY_MB, f"{free_mb:,} MB available", f"free at least {MEMORY_MB:,} MB")


def descriptors() -> Finding:
    """Whether a gateway may open enough connections."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    remedy = "type: ulimit -n 8192 (and raise the hard limit if it refuses)"
    return judge("file descriptors", soft >= FREE_DESCRIPTORS, f"limit {soft:,}, at most {hard:,}", remedy)


def clocks() -> Finding:
    """Whether the wall clock is not before this installation, and runs at the pace of the monotonic one."""
    before = time.time() - time.monotonic()
    time.sleep(CLOCK_SAMPLE_S)
    drift = abs(time.time() - time.monotonic() - before)
    installed = Path(__file__).stat().st_mtime
    good = drift < CLOCK_DRIFT_S and time.time() >= installed
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    found = f"{shown} UTC, off by {drift * 1e3:.2g} ms in {CLOCK_SAMPLE_S * 1e3:.0f}"
    return judge("clocks", good, found, "set the clock and run a time service (chrony, systemd-timesyncd)")


def processes() -> Finding:
    """Whether the kernel tells reliably how a process ended, which restarts depend on."""
    descriptor = os.pidfd_open(os.getpid())
    os.close(descriptor)
    return judge("processes", True, f"{os.cpu_count()} processors, pidfd works", "")


def unix_sockets() -> Finding:
    """Whether a socket can be bound and reached however deep its folder lies."""
    from rdv.sockets import bound_unix_socket, connected_unix_socket

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, *["deep"] * 30, "bus.sock")
        with bound_unix_socket(path), connected_unix_socket(path):
            return judge("unix sockets", True, "bound and reached, 0600", "")


def loopback() -> Finding:
    """Whether a server may listen on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=2):
        return judge("loopback", True, "127.0.0.1 listens and answers", "")
