"""What to do after a step has ended: done, again, again with more memory, or give up and say why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rdv.backends.ports import Outcome, Status
from rdv.errors import Exit, Interrupted, OutOfMemory, RdvError, StepFailed, TimedOut
from rdv.pipelines.memory import next_class

MOST_JOINS = 20
_AGAIN = (Exit.UNREACHABLE, Exit.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a step. number: from 1, part of its token. failures: how many tries failed for a passing reason."""

    memory_mb: int
    number: int = 1
    failures: int = 0
    joins: int = 0


def after(outcome: Outcome, attempt: Attempt, name: str, retries: int, classes_mb: Sequence[int]) -> Attempt | RdvError:
    """The next attempt at a step that ended without success, or the error that says why there is none.

    retries: how often a step may fail for a passing reason (lost, killed, something unreachable). Running out of
    memory costs no retry but goes one class up; somebody else's step that was given up costs none either.
    """
    again = replace(attempt, number=attempt.number + 1)
    if outcome.status is Status.OUT_OF_MEMORY:
        larger = next_class(attempt.memory_mb, classes_mb)
        if larger is not None:
            return replace(again, memory_mb=larger)
        hint = "add a larger class to train.memory_mb, or use less data"
        return OutOfMemory(f"step {name} ran out of memory in the largest class, {attempt.memory_mb} MB", hint)
    given_up = outcome.joined and outcome.status in (Status.CANCELLED, Status.LOST)
    if given_up and attempt.joins < MOST_JOINS:
        return replace(attempt, joins=attempt.joins + 1)
    if outcome.status is Status.CANCELLED:
        return Interrupted(f"step {name} was cancelled: {outcome.reason}", "run again; what is done stays done")
    if outcome.status is Status.TIMED_OUT:
        return TimedOut(f"step {name} was ended: {outcome.reason}", "raise train.wall_s in rdv.toml")
    if is_passing(outcome) and attempt.failures < retries:
        return replace(again, failures=attempt.failures + 1)
    return _failed(outcome, name)


def is_passing(outcome: Outcome) -> bool:
    """Whether the same step may well succeed the next time."""
    if outcome.status is Status.LOST:
        return True
    if outcome.status is not Status.FAILED:
        return False
    return outcome.signal is not None or outcome.exit_code in _AGAIN


def _failed(outcome: Outcome, name: str) -> RdvError:
    if outcome.status is Status.SUCCEEDED:
        return StepFailed(f"step {name} ended without an artifact", f"see `rdv logs {outcome.step}`")
    error = StepFailed(f"step {name} {outcome.status.value}: {outcome.reason}", f"see `rdv logs {outcome.step}`")
    if outcome.exit_code in set(Exit) - {Exit.OK, Exit.CHANGES, Exit.INTERRUPTED}:
        error.exit_code = Exit(outcome.exit_code)
    return error
