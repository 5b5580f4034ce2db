"""What a step's process does from its fork to its end. It never returns to the fork server's code."""

from __future__ import annotations

import ctypes
import importlib
import io
import itertools
import os
import random
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from rdv.backends.local.messages import Said
from rdv.backends.ports import StepSpec
from rdv.errors import OutOfMemory, RdvError
from rdv.processes import die_with_parent

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
WORTH_WARMING = frozenset(
    ("rdv", "numpy", "msgspec", "lightgbm", "catboost", "pandas", "pyarrow", "scipy", "statsmodels", "luigi")
)
"""What a step may have the fork server import for the steps after it: nothing here runs threads when imported.

Of other packages nothing is, least of all of a project's own modules, which may change between two steps.
"""
_REASON_CHARS = 2000
_COLD_NAMES = 200


def run_step(
    folder: Path, parent: int, said_fd: int, join_group: Callable[[], object], warm: int, own_log: bool = True
) -> NoReturn:
    """Become the step whose folder this is: own session, its log as output, its limits, its entry; then exit.

    parent: the process id of who forked it. said_fd: where the last word goes. join_group: enters the memory cgroup.
    warm: how many modules that process had loaded. own_log: False = the output stays where it goes now.
    """
    code = 1
    try:
        os.setsid()
        die_with_parent(parent)
        said_fd = _redirect(folder / "log" if own_log else None, said_fd)
        join_group()
        spec = msgspec.json.decode(folder.joinpath("spec.json").read_bytes(), type=StepSpec)
        _settle_in(spec)
        code, said = _call(spec)
        _flush()
        os.write(said_fd, msgspec.json.encode(msgspec.structs.replace(said, cold=cold_modules(warm))))
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)


def cold_modules(warm: int) -> tuple[str, ...]:
    """What of the modules loaded after the first `warm` the fork server should have: our own by name, of others the

    package. The first ones are not looked at: touching their names would copy the pages they are shared in.
    """
    new = list(itertools.islice(reversed(sys.modules), max(0, len(sys.modules) - warm)))
    tops = ((name, name.partition(".")[0]) for name in new)
    cold = {name if top == "rdv" else top for name, top in tops if top in WORTH_WARMING}
    return tuple(sorted(cold)[:_COLD_NAMES])


def _redirect(log: Path | None, said_fd: int) -> int:
    """Give the process the log (None: what it has) as output and nothing else that was open; said_fd's new number."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    kept = os.dup2(said_fd, max(said_fd, out, empty) + 1)  # above all others, so that no dup2 below can hit it
    os.dup2(empty, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.dup2(kept, 3, inheritable=False)
    os.closerange(4, 1 << 20)
    return 3


def prepare() -> None:
    """Set in the fork server what every step inherits: done here it costs a step nothing, not even page faults."""
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # else importing pyarrow starts a thread
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # the machine's last resort is a step, not who dispatches it; it may be set higher already
        Path("/proc/self/oom_score_adj").write_text("500")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def reseed() -> None:
    """Give the next step global random numbers of its own; called in the fork server before each fork."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _settle_in(spec: StepSpec) -> None:
    if spec.resources.cpus != 1:  # what is loaded already was loaded with 1
        _set_threads(spec.resources.cpus)
    sys.argv = [spec.entry]
    if spec.folder:
        os.chdir(spec.folder)
        sys.path.insert(0, spec.folder)


def _set_threads(cpus: int) -> None:
    for name in THREAD_SETTINGS:
        os.environ[name] = str(cpus)
    with open("/proc/self/maps") as maps:
        paths = {line.rpartition(" ")[2].strip() for line in maps if "omp" in line and ".so" in line}
    for path in paths:
        if Path(path).name.startswith(("libgomp", "libomp", "libiomp")):
            ctypes.CDLL(path).omp_set_num_threads(cpus)


def _call(spec: StepSpec) -> tuple[int, Said]:
    """Run the entry: its exit code and what there is to say about a failure, whose traceback goes to the log."""
    try:
        module, _, name = spec.entry.partition(":")
        target: object = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
        if not callable(target):
            raise RdvError(f"entry {spec.entry} cannot be called", "name a function that takes the payload")
        target(spec.payload)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return (leaving.code or 0) & 0xFF, Said()
        print(leaving.code, file=sys.stderr)
        return 1, Said(_reason(str(leaving.code)))
    except RdvError as error:
        traceback.print_exc()
        return int(error.exit_code), Said(_reason(str(error)), memory=isinstance(error, OutOfMemory))
    except BaseException as error:
        traceback.print_exc()
        reason = _reason("".join(traceback.format_exception_only(error)))
        return 1, Said(reason, memory=isinstance(error, MemoryError))
    return 0, Said()


def _reason(text: str) -> str:
    """At most so much text, fit for JSON."""
    return text.strip()[:_REASON_CHARS].encode(errors="backslashreplace").decode()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
