"""A child process that may not outgrow its limits, run to its end from any thread.

Memory is sampled, not limited by the kernel: RLIMIT_AS counts address space, of which numeric libraries reserve far
more than they use.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_SAMPLE_MS = 20
_TAIL_BYTES = 4096
_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use: seconds on the wall clock and of processor time, resident bytes."""

    wall_s: float = 20.0
    cpu_s: float = 15.0
    memory_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. code: as in `subprocess`, negative is a signal. over: the limit it was killed for, or empty.

    result: what it wrote to its result descriptor. tail: the end of what it said on stdout and stderr.
    """

    code: int
    over: str
    result: bytes
    tail: str
    wall_s: float


def numeric_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment for a process that computes: what Python needs to start, and one OpenMP thread."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", **(extra or {})}


def inherited_environment() -> dict[str, str]:
    """This process's own environment for a child that computes: one OpenMP thread, output as it comes."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def run_limited(argv: Sequence[str], data: bytes, limits: Limits) -> Ended:
    """Run a child to its end, giving it `data` on stdin; whatever it does, this returns soon after `wall_s`.

    argv: may hold `{result}`, which becomes the number of a descriptor that the child writes its result to. The child
    limits its own processor time (see `rdv.serving.worker.probe`); wall clock and memory are watched from here.
    """
    began = time.monotonic()
    with _memory_file(data) as stdin, _memory_file() as said, _memory_file() as result:
        process = subprocess.Popen(
            [part.replace("{result}", str(result)) for part in argv],
            stdin=stdin,
            stdout=said,
            stderr=said,
            env=numeric_environment(),
            pass_fds=(result,),
            start_new_session=True,
        )
        over = _watch(process, began, limits)
        code = process.wait()
        return Ended(code, over, _content(result), _tail(said), time.monotonic() - began)


def _watch(process: subprocess.Popen[bytes], began: float, limits: Limits) -> str:
    """Wait for the child's end, killing it when it passes a limit; the limit passed, or empty."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(_SAMPLE_MS):
            over = ""
            if time.monotonic() - began > limits.wall_s:
                over = f"took longer than {limits.wall_s:g} s"
            elif _resident_bytes(process.pid) > limits.memory_bytes:
                over = f"used more than {limits.memory_bytes >> 20} MiB of memory"
            if over:
                process.kill()
                return over
        return ""
    finally:
        os.close(pidfd)


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


@contextlib.contextmanager
def _memory_file(data: bytes = b"") -> Iterator[int]:
    fd = os.memfd_create("rdv", os.MFD_CLOEXEC)
    try:
        if data:
            os.write(fd, data)
            os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _tail(fd: int) -> str:
    size = os.fstat(fd).st_size
    return os.pread(fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode("utf-8", "replace").strip()
