"""What a worker does about its pointer, decided by values alone."""

from hypothesis import given
from hypothesis import strategies as st

from rdv.records import Pointer
from rdv.serving.worker.pursuit import LONGEST_S, QUIET_S, FallBack, Load, Pursuit, Swap, Wait


def pointer(version: str, serial: int = 1) -> Pointer:
    """A pointer at a version."""
    return Pointer(version=version, serial=serial)


def test_a_single_move_is_followed_at_once() -> None:
    """One release is loaded without any pause, a loaded version is swapped to."""
    pursuit = Pursuit()
    pursuit.moved(pointer("a"), 100.0)
    assert pursuit.step("", (), 100.0) == Load("a")
    assert pursuit.step("a", ("a",), 100.1) == Wait()
    pursuit.moved(pointer("b", 2), 110.0)
    assert pursuit.step("a", ("a",), 110.0) == Load("b")
    pursuit.moved(pointer("a", 3), 110.1)
    assert pursuit.step("b", ("b", "a"), 110.1) == Swap("a")


def test_with_no_pointer_what_served_last_is_tried_once() -> None:
    """Without news from the registry the disk is asked, one time; what is served stays."""
    pursuit = Pursuit()
    assert pursuit.step("", (), 1.0) == FallBack()
    pursuit.fell_back = True
    assert pursuit.step("", (), 2.0) == Wait()
    assert pursuit.step("a", ("a",), 2.0) == Wait()


@given(st.integers(1, 30), st.booleans())
def test_a_failed_release_is_tried_ever_more_rarely(tries: int, transient: bool) -> None:
    """Each failure postpones the next try further, up to a ceiling, and never stops it for good."""
    pursuit, now, last = Pursuit(), 0.0, 0.0
    pursuit.moved(pointer("bad"), now)
    for _ in range(tries):
        assert pursuit.step("good", ("good",), now) == Load("bad")
        pursuit.failed("bad", "no", transient, now)
        waiting = pursuit.step("good", ("good",), now)
        assert isinstance(waiting, Wait)
        assert waiting.until is not None
        pause = waiting.until - now
        assert last <= pause + 1e-6
        assert pause <= (30.0 if transient else 3600.0)
        last, now = pause, waiting.until


def test_releasing_the_same_version_again_tries_it_again() -> None:
    """A new release of a version that failed is a new order, not the old failure."""
    pursuit = Pursuit()
    pursuit.moved(pointer("bad", 1), 0.0)
    pursuit.failed("bad", "no", False, 0.0)
    assert isinstance(pursuit.step("good", ("good",), 1.0), Wait)
    pursuit.moved(pointer("bad", 2), 10.0)
    assert pursuit.step("good", ("good",), 10.0) == Load("bad")


def test_nothing_served_and_nothing_loadable_falls_back() -> None:
    """When the first release fails and nothing is served, what served last is better than nothing."""
    pursuit = Pursuit()
    pursuit.moved(pointer("bad"), 0.0)
    pursuit.failed("bad", "no", False, 0.0)
    assert pursuit.step("", (), 0.0) == FallBack()


@given(st.floats(0.01, QUIET_S * 0.9), st.integers(2, 12))
def test_a_flood_of_moves_costs_few_loads_and_ends_on_the_last(gap: float, versions: int) -> None:
    """A minute of moves to ever other versions leads to at most four loads, the last one of the final version."""
    pursuit, now, serving, loads = Pursuit(), 0.0, "", []
    moves = int(60 / gap)
    for move in range(moves):
        pursuit.moved(pointer(f"v{move % versions}-{move}", move + 1), now)
        step = pursuit.step(serving, (serving,), now)
        if isinstance(step, Load):
            pursuit.loading(now)
            loads.append(step.version)
            serving = step.version
        now += gap
    while not isinstance(step := pursuit.step(serving, (serving,), now), Wait) or step.until is not None:
        if isinstance(step, Load):
            pursuit.loading(now)
            loads.append(step.version)
            serving = step.version
        now += 0.05
        assert now < 60 + 2 * LONGEST_S
    assert serving == f"v{(moves - 1) % versions}-{moves - 1}"
    assert len(loads) <= 4 + 1
