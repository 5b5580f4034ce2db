"""What the end of a step's process means. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from rdv.backends.local.messages import Said
from rdv.backends.ports import Outcome, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What was seen of a step's end.

    code: the exit code, None after a signal. memory: a process of the step was killed for want of memory, or the
    sampler ended it above its limit. late: it was ended for its wall clock limit. cancelled: why somebody ended it.
    lost: why nobody waits for it any more.
    """

    code: int | None
    signal: int | None = None
    wall_s: float = 0.0
    wall_limit_s: float = 0.0
    peak_bytes: int = 0
    limit_bytes: int = 0
    memory: bool = False
    late: bool = False
    cancelled: str = ""
    lost: str = ""
    said: Said = Said()


def verdict(step: str, ending: Ending) -> Outcome:
    """The outcome of a step: exit code 0 is success whatever was about to happen to it; else the first cause counts."""
    status, reason = _judge(ending)
    peak = max(ending.peak_bytes, ending.limit_bytes) if status is Status.OUT_OF_MEMORY else ending.peak_bytes
    return Outcome(
        step=step,
        status=status,
        reason=reason,
        exit_code=ending.code,
        signal=ending.signal,
        wall_s=ending.wall_s,
        peak_memory_bytes=peak,
    )


def _judge(ending: Ending) -> tuple[Status, str]:
    if ending.code == 0:
        return Status.SUCCEEDED, ""
    if ending.memory or ending.said.memory:
        said = f": {ending.said.reason}" if ending.said.reason else ""
        return Status.OUT_OF_MEMORY, f"it needed more than {ending.limit_bytes >> 20} MB of memory{said}"
    if ending.signal and ending.late:
        return Status.TIMED_OUT, f"it ran longer than {ending.wall_limit_s:g} s"
    if ending.signal and ending.lost:
        return Status.LOST, ending.lost
    if ending.signal and ending.cancelled:
        return Status.CANCELLED, ending.cancelled
    if ending.signal:
        return Status.FAILED, f"it was killed by {_signal_name(ending.signal)}"
    return Status.FAILED, ending.said.reason or f"it ended with exit code {ending.code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
