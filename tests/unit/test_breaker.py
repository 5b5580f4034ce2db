"""Circuit breakers: when they open, that they close again, and that a trial is one call."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.guarded import Guard, GuardedBlobs, GuardedRegistry
from rdv.backends.ports import Entry
from rdv.breaker import Breaker, BreakerBook, BreakerPolicy, State
from rdv.errors import LostRace, NotAuthorised, Unreachable

POLICY = BreakerPolicy(failures=3, first_s=1.0, factor=2.0, ceiling_s=4.0, trial_share=0.5, dear_s=100.0, trial_s=30.0)


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Hand, policy: BreakerPolicy = POLICY) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker("b", policy)
    for _ in range(policy.failures):
        assert breaker.allows(clock)
        breaker.failed("down", clock())
    assert breaker.state is State.OPEN
    return breaker


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 6.0)), max_size=60))
def test_it_is_open_after_failures_in_a_row_and_never_for_long(calls: list[tuple[bool, float]]) -> None:
    """It opens exactly at the third failure in a row, refuses at most the ceiling, and closes at the first success."""
    clock, breaker, row, since = Hand(), Breaker("b", POLICY), 0, None
    for works, pause_s in calls:
        allowed = breaker.allows(clock)
        if since is None:
            assert allowed
        elif not allowed:
            assert clock.now < since + POLICY.ceiling_s  # added as it adds: differences of floats round
        else:
            assert clock.now >= since + POLICY.first_s
        if allowed:
            if works:
                breaker.succeeded()
                row, since = 0, None
                assert breaker.state is State.CLOSED
            else:
                row += 1
                breaker.failed("down", clock())
                if row >= POLICY.failures:
                    since = clock.now
        assert (breaker.state is State.OPEN) == (since is not None)
        clock.now += pause_s


def test_trials_come_ever_more_rarely() -> None:
    """Each trial that fails doubles the wait, up to the ceiling; a success begins anew."""
    clock = Hand()
    breaker, waits = opened(clock), []
    for _ in range(4):
        began = clock.now
        while not breaker.allows(clock):
            clock.now += 0.25
        waits.append(clock.now - began)
        breaker.failed("down", clock())
    assert waits == [1.0, 2.0, 4.0, 4.0]
    clock.now += 4.0
    assert breaker.allows(clock)
    breaker.succeeded()
    assert [breaker.allows(clock) for _ in range(3)] == [True] * 3


def test_a_dear_trial_comes_rarely() -> None:
    """Where a failing call takes long, trials take no more than their share of the time."""
    clock = Hand()
    breaker = opened(clock)
    clock.now += 1.0
    assert breaker.allows(clock)
    breaker.failed("slow", clock(), cost_s=20.0)
    clock.now += 19.0
    assert not breaker.allows(clock)
    clock.now += 1.0
    assert breaker.allows(clock)


def test_one_trial_at_a_time_over_threads() -> None:
    """Of many threads that ask when it may be tried again, one is let through; all are once that one succeeded."""
    clock = Hand()
    breaker = opened(clock)
    clock.now += 1.0
    ready = threading.Barrier(8)

    def ask() -> bool:
        ready.wait()
        return breaker.allows(clock)

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask) for _ in range(8)]
        assert sum(one.result() for one in asked) == 1
        breaker.succeeded()
        asked = [pool.submit(ask) for _ in range(8)]
        assert sum(one.result() for one in asked) == 8


def test_a_trial_that_never_ends_is_given_up() -> None:
    """When whoever tries is gone, somebody else may try after a while."""
    clock = Hand()
    breaker = opened(clock)
    clock.now += 1.0
    assert breaker.allows(clock)
    clock.now += POLICY.trial_s - 1
    assert not breaker.allows(clock)
    clock.now += 1.0
    assert breaker.allows(clock)


def test_an_interrupted_trial_is_no_verdict() -> None:
    """A trial that was interrupted leaves the next one to others at once."""
    clock = Hand()
    breaker = opened(clock)
    clock.now += 1.0
    with pytest.raises(KeyboardInterrupt), Guard(breaker, clock).call():
        raise KeyboardInterrupt
    assert breaker.state is State.OPEN
    assert breaker.allows(clock)


class Faulty:
    """A registry and store that fails as it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    def get(self, key: str) -> Entry | None:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return None

    def keys(self, prefix: str, skip: str = "") -> object:
        yield "a"
        self.get(prefix)


@pytest.fixture
def guarded() -> tuple[Faulty, GuardedRegistry, Hand]:
    """A registry that can be told to fail, behind a breaker, and the clock."""
    faulty, clock = Faulty(), Hand()
    return faulty, GuardedRegistry(faulty, Breaker("registry of dev", POLICY), clock), clock  # type: ignore[arg-type]


def test_a_server_that_is_away_is_asked_no_more(guarded: tuple[Faulty, GuardedRegistry, Hand]) -> None:
    """After three failures calls end at once, name the server and the reason, and reach it again after a while."""
    faulty, registry, clock = guarded
    faulty.error = Unreachable("Consul at x does not answer", "check it")
    for _ in range(20):
        with pytest.raises(Unreachable):
            registry.get("k")
    assert faulty.calls == 3
    with pytest.raises(Unreachable, match="registry of dev is left alone for a moment: Consul at x does not answer"):
        registry.get("k")
    faulty.error = None
    clock.now += 1.0
    assert registry.get("k") is None
    assert registry.get("k") is None


@pytest.mark.parametrize("error", [LostRace("k"), NotAuthorised("k"), ValueError("k")])
def test_answers_do_not_open_it(guarded: tuple[Faulty, GuardedRegistry, Hand], error: Exception) -> None:
    """A lost race, a refusal and a bug are no reason to leave a server alone."""
    faulty, registry, _ = guarded
    faulty.error = error
    for _ in range(10):
        with pytest.raises(type(error)):
            registry.get("k")
    assert faulty.calls == 10


def test_a_listing_that_breaks_off_is_a_failure() -> None:
    """The error of a listing counts though it comes after the first keys; one that is left early does not."""
    faulty, clock = Faulty(), Hand()
    breaker = Breaker("store", POLICY)
    store = GuardedBlobs(faulty, breaker, clock)  # type: ignore[arg-type]
    faulty.error = Unreachable("S3 is away")
    for _ in range(5):
        assert next(iter(store.keys(""))) == "a"
    assert breaker.state is State.CLOSED
    for _ in range(3):
        with pytest.raises(Unreachable):
            list(store.keys(""))
    assert breaker.state is State.OPEN


def test_the_book_has_one_breaker_a_name() -> None:
    """All who ask for a name get the same one, and a forked child begins with none."""
    book = BreakerBook()
    assert book.named("a") is book.named("a")
    book.named("b").failed("x", 0.0)
    assert [one["name"] for one in book.views()] == ["a", "b"]
    book.renew()
    assert book.views() == []


def test_weight_and_time_show_in_the_view() -> None:
    """One failure that counts for many opens it, and the view says why."""
    clock = Hand()
    clock_of: Callable[[], float] = clock
    breaker = Breaker("lookup m:f", POLICY)
    breaker.failed("it took 2000 ms", clock(), cost_s=2.0, weight=3)
    assert not breaker.allows(clock_of)
    assert breaker.view() == {
        "name": "lookup m:f",
        "state": "open",
        "reason": "it took 2000 ms",
        "opened": 1,
        "refused": 1,
    }
