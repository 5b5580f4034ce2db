"""What Nomad runs for a step: its entry in a process group of its own, within its wall clock limit, and a last word.

The last word, an outcome, lies in the allocation's folder, where the dispatcher reads it on first sight: Nomad itself
cannot tell a peak of memory, an exception's text or, for this driver, a kill for want of memory.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec

from rdv.backends.cluster_local_child import prepare, run_step
from rdv.backends.cluster_local_memory import V1, MemoryGroup, cgroup_base, family
from rdv.backends.cluster_local_messages import Said
from rdv.backends.cluster_local_verdict import Ending, verdict
from rdv.backends.ports import StepSpec
from rdv.files import replace_file
from rdv.processes import adopt_orphans, signal_group

OUTCOME = "outcome.json"
# what Nomad hands to a task, and a step has no use for
_TOKENS = ("NOMAD_TOKEN", "VAULT_TOKEN", "CONSUL_TOKEN", "CONSUL_HTTP_TOKEN")
_SAID_BYTES = 65536
_LOOK_S = 0.2


def main(task_folder: Path, alloc_folder: Path) -> int:
    """Run the step whose specification lies in the task's folder; its exit code, 128 + n after signal n."""
    for name in _TOKENS:
        os.environ.pop(name, None)
    os.environ["RDV_STATE"] = str(task_folder / "state")
    folder = task_folder / "step"
    folder.mkdir(exist_ok=True)
    body = zlib.decompress(task_folder.joinpath("spec").read_bytes())
    folder.joinpath("spec.json").write_bytes(body)
    with suppress(FileExistsError):
        folder.joinpath("log").symlink_to("/dev/stdout")
    ending = _run(folder, msgspec.json.decode(body, type=StepSpec))
    outcome = verdict("", ending)
    replace_file(alloc_folder / OUTCOME, msgspec.json.encode(outcome))
    return ending.code if ending.code is not None else 128 + (ending.signal or 0)


def _run(folder: Path, spec: StepSpec) -> Ending:
    prepare()
    adopt_orphans()
    group = _memory_group(spec.resources.memory_mb << 20)
    kills = group.oom_kills() if group else 0
    reading, writing = os.pipe()
    parent, begun = os.getpid(), time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        run_step(folder, parent, writing, lambda: None, len(sys.modules))
    os.close(writing)
    stopped = _kill_when_asked(pid)

    def starved() -> bool:
        return group is not None and group.oom_kills() > kills

    ended = _ends_within(pid, spec.resources.wall_s, starved)
    if not ended:
        signal_group(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - begun
    _end_the_rest(pid)
    code = os.waitstatus_to_exitcode(status)
    return Ending(
        code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        wall_s=wall_s,
        wall_limit_s=spec.resources.wall_s,
        peak_bytes=max(usage.ru_maxrss * 1024, _peak_bytes(group)),
        limit_bytes=spec.resources.memory_mb << 20,
        memory=starved(),
        late=not ended,
        cancelled="cancelled" if stopped else "",
        said=_said(reading),
    )


def _kill_when_asked(pid: int) -> list[int]:
    """End the step when Nomad asks this process to end; the signals that came are in the list."""
    came: list[int] = []

    def kill(number: int, _: FrameType | None) -> None:
        came.append(number)
        signal_group(pid, signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, kill)
    return came


def _ends_within(pid: int, limit_s: float, starved: Callable[[], bool]) -> bool:
    """Wait for the end; False when the time is over, or when the kernel had to kill some other process of the step."""
    until = time.monotonic() + limit_s
    pidfd = os.pidfd_open(pid)
    try:
        while (left := until - time.monotonic()) > 0:
            if select.select([pidfd], [], [], min(left, _LOOK_S))[0]:
                return True
            if starved():
                return False
        return False
    finally:
        os.close(pidfd)


def _end_the_rest(pid: int) -> None:
    signal_group(pid, signal.SIGKILL)
    for other in list(family(os.getpid())):
        if other != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)


def _said(reading: int) -> Said:
    os.set_blocking(reading, False)
    with suppress(BlockingIOError, msgspec.DecodeError):
        return msgspec.json.decode(os.read(reading, _SAID_BYTES), type=Said)
    return Said()


def _memory_group(limit_bytes: int) -> MemoryGroup | None:
    """The cgroup that Nomad made for this step, None when it is not ours alone: then its counts mean nothing."""
    with suppress(OSError, ValueError):
        found = cgroup_base(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
        if found and int(found[0].joinpath(found[1].limit).read_text()) == limit_bytes:
            return MemoryGroup(*found)
    return None


def _peak_bytes(group: MemoryGroup | None) -> int:
    if group is None:
        return 0
    name = "memory.max_usage_in_bytes" if group.files is V1 else "memory.peak"
    with suppress(OSError, ValueError):
        return int(group.folder.joinpath(name).read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
