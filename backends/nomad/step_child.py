"""What Nomad runs for a step: its entry in a process group of its own, within its wall clock limit, and a last word.

The last word, an outcome, lies in the allocation's folder, where the dispatcher reads it on first sight: Nomad itself
cannot tell a peak of memory, an exception's text or, with the driver raw_exec, a kill for want of memory. With exec
this is process 1 of its own world, where a signal without a handler does nothing: so there is one from the beginning.
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

from rdv.backends.allocation import drop_tokens
from rdv.backends.local.child import prepare, run_step
from rdv.backends.local.memory import V1, MemoryGroup, cgroup_base, family
from rdv.backends.local.messages import Said
from rdv.backends.local.verdict import Ending, verdict
from rdv.backends.ports import StepSpec
from rdv.files import replace_file
from rdv.processes import adopt_orphans, signal_group

OUTCOME = "outcome.json"
_SAID_BYTES = 65536
_LOOK_S = 0.2


def main(task_folder: Path, alloc_folder: Path) -> int:
    """Run the step whose specification lies in the task's folder; its exit code, 128 + n after signal n."""
    body = zlib.decompress(task_folder.joinpath("spec").read_bytes())
    return carry_out(msgspec.json.decode(body, type=StepSpec), task_folder, alloc_folder)


def carry_out(spec: StepSpec, task_folder: Path, alloc_folder: Path) -> int:
    """Run a step in an allocation's folders and leave its last word there; its exit code, 128 + n after signal n."""
    stop = _Stop()
    drop_tokens()
    os.environ["RDV_STATE"] = str(task_folder / "state")
    folder = task_folder / "step"
    folder.mkdir(exist_ok=True)
    folder.joinpath("spec.json").write_bytes(msgspec.json.encode(spec))
    ending = _run(folder, spec, stop)
    outcome = verdict("", ending)
    replace_file(alloc_folder / OUTCOME, msgspec.json.encode(outcome))
    return ending.code if ending.code is not None else 128 + (ending.signal or 0)


class _Stop:
    """What Nomad sends when the step is to end: kills the step, or remembers to while it is not there yet."""

    def __init__(self) -> None:
        self.came, self._pid = False, 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._kill)

    def watch(self, pid: int) -> None:
        """The step's process; 0: it has ended."""
        self._pid = pid
        if self.came:
            self._kill()

    def _kill(self, number: int = 0, frame: FrameType | None = None) -> None:
        self.came = True
        if self._pid:
            signal_group(self._pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # it leads no group yet when it has just been forked


def _run(folder: Path, spec: StepSpec, stop: _Stop) -> Ending:
    prepare()
    adopt_orphans()
    group = _memory_group(spec.resources.memory_mb << 20)
    kills = group.oom_kills() if group else 0
    reading, writing = os.pipe()
    parent, begun = os.getpid(), time.monotonic()
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(reading)
        run_step(folder, parent, writing, lambda: None, len(sys.modules), own_log=False)
    os.close(writing)
    stop.watch(pid)

    def starved() -> bool:
        return group is not None and group.oom_kills() > kills

    ended = _ends_within(pid, spec.resources.wall_s, starved)
    if not ended:
        signal_group(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    stop.watch(0)
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
        cancelled="cancelled" if stop.came else "",
        said=_said(reading),
    )


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
