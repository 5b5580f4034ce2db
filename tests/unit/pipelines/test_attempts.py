"""What follows a step's end, and how much memory the next one gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.ports import Outcome, Status
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.errors import Exit, Interrupted, OutOfMemory, RdvError, StepFailed, TimedOut
from rdv.pipelines.attempts import MOST_JOINS, Attempt, after, is_passing
from rdv.pipelines.memory import HEADROOM, KEPT_RUNS, Peaks, choose_class, history_key, next_class

CLASSES = (512, 1024, 2048)
statuses = st.sampled_from([status for status in Status if status.ended])
outcomes = st.builds(
    Outcome,
    step=st.just("r.s"), status=statuses, exit_code=st.none() | st.integers(0, 255), signal=st.none() | st.just(9),
    joined=st.booleans(),
)  # fmt: skip


def ended(status: Status, **more: object) -> Outcome:
    return Outcome(step="r.s", status=status, **more)  # type: ignore[arg-type]


def test_out_of_memory_goes_one_class_up() -> None:
    """A step that ran out of memory is tried again in the next class, without costing a retry, until there is none."""
    attempt = Attempt(512)
    for size in CLASSES[1:]:
        then = after(ended(Status.OUT_OF_MEMORY), attempt, "train", 0, CLASSES)
        assert isinstance(then, Attempt)
        assert (then.memory_mb, then.failures, then.number) == (size, 0, attempt.number + 1)
        attempt = then
    assert isinstance(after(ended(Status.OUT_OF_MEMORY), attempt, "train", 9, CLASSES), OutOfMemory)


@pytest.mark.parametrize(
    "outcome",
    [
        ended(Status.LOST),
        ended(Status.FAILED, signal=9),
        ended(Status.FAILED, exit_code=5),
        ended(Status.FAILED, exit_code=6),
    ],
)
def test_passing_failures_are_retried_so_often(outcome: Outcome) -> None:
    """Lost steps, killed ones and unreachable servers are tried again as often as allowed, then told as failures."""
    then = after(outcome, Attempt(512), "train", 1, CLASSES)
    assert isinstance(then, Attempt)
    assert then.failures == 1
    assert isinstance(after(outcome, then, "train", 1, CLASSES), StepFailed)


def test_a_step_that_fails_by_itself_is_not_retried() -> None:
    """An exception in a step's code is final; a known error keeps its exit code, any other is 1."""
    for code, exit_code in ((1, Exit.FAILED), (3, Exit.USAGE), (7, Exit.REFUSED), (77, Exit.FAILED), (2, Exit.FAILED)):
        error = after(ended(Status.FAILED, exit_code=code, reason="no"), Attempt(512), "train", 5, CLASSES)
        assert isinstance(error, StepFailed)
        assert error.exit_code == exit_code
    assert isinstance(after(ended(Status.TIMED_OUT), Attempt(512), "train", 5, CLASSES), TimedOut)
    assert isinstance(after(ended(Status.CANCELLED), Attempt(512), "train", 5, CLASSES), Interrupted)
    assert isinstance(after(ended(Status.SUCCEEDED), Attempt(512), "train", 5, CLASSES), StepFailed)


def test_somebody_elses_cancelled_step_is_taken_over() -> None:
    """When the run whose step was joined gives up, this one starts its own, under the same token."""
    then = after(ended(Status.CANCELLED, joined=True), Attempt(512), "train", 0, CLASSES)
    assert then == Attempt(512, joins=1)


@given(st.lists(outcomes, min_size=80, max_size=80), st.integers(0, 5))
def test_every_step_comes_to_an_end(ends: list[Outcome], retries: int) -> None:
    """Whatever happens, the number of attempts is bounded and memory never shrinks."""
    attempt: Attempt | RdvError = Attempt(512)
    for outcome in ends:
        then = after(outcome, attempt, "train", retries, CLASSES)
        if isinstance(then, RdvError):
            return
        assert isinstance(attempt, Attempt)
        assert then.memory_mb >= attempt.memory_mb
        attempt = then
    pytest.fail(f"still going on after {MOST_JOINS + retries + len(CLASSES)} attempts were allowed")


@given(outcomes)
def test_success_and_the_wishes_of_people_are_not_passing(outcome: Outcome) -> None:
    """Only lost and failed steps can be worth another try."""
    assert not is_passing(outcome) or outcome.status in (Status.LOST, Status.FAILED)


@given(st.lists(st.integers(0, 1 << 40), max_size=8), st.lists(st.integers(1, 1 << 16), min_size=1, max_size=6))
def test_the_class_is_the_smallest_that_will_do(peaks: list[int], classes: list[int]) -> None:
    """The class holds the highest peak and a quarter more, and no smaller one does; the largest when none does."""
    chosen = choose_class(peaks, classes)
    need = max(peaks, default=0) * HEADROOM
    fitting = [size for size in classes if size << 20 >= need]
    assert chosen == (min(fitting) if fitting else max(classes))


def test_after_running_out_of_memory_history_starts_above() -> None:
    """A step that used up its class counts as having needed all of it, so that the next run begins one class higher."""
    assert choose_class([512 << 20], CLASSES) == 1024
    assert next_class(2048, CLASSES) is None


def test_peaks_are_remembered_from_run_to_run(tmp_path: Path) -> None:
    """What this run's steps needed chooses the class in the next run; old runs are forgotten one by one."""
    registry = SqliteRegistry(tmp_path / "registry.sqlite")
    first = Peaks(registry)
    assert first.choose("train/churn/lightgbm", CLASSES) == 512
    first.note("train/churn/lightgbm", 700 << 20)
    first.save()
    assert Peaks(registry).choose("train/churn/lightgbm", CLASSES) == 1024
    assert Peaks(registry).choose("train/other", CLASSES) == 512
    for _ in range(KEPT_RUNS):
        later = Peaks(registry)
        later.note("train/churn/lightgbm", 100 << 20)
        later.save()
    assert Peaks(registry).choose("train/churn/lightgbm", CLASSES) == 512
    registry.close()


def test_a_history_that_cannot_be_read_is_no_history(tmp_path: Path) -> None:
    """A damaged value neither stops a run nor is kept."""
    registry = SqliteRegistry(tmp_path / "registry.sqlite")
    registry.put(history_key("train/m"), b"?")
    peaks = Peaks(registry)
    assert peaks.choose("train/m", CLASSES) == 512
    peaks.note("train/m", 600 << 20)
    peaks.save()
    assert Peaks(registry).choose("train/m", CLASSES) == 1024
    registry.close()
