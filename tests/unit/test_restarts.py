"""The restart decision."""

from hypothesis import given
from hypothesis import strategies as st

from rdv.restarts import Again, GiveUp, RestartPolicy, after_death, recent

POLICY = RestartPolicy(first_s=0.5, factor=2.0, ceiling_s=8.0, jitter=0.0, window_s=60.0, fast=3)

policies = st.builds(
    RestartPolicy,
    first_s=st.floats(0, 10),
    factor=st.floats(1, 10),
    ceiling_s=st.floats(0, 100),
    jitter=st.floats(0, 1),
    window_s=st.floats(0.1, 1000),
    fast=st.integers(1, 20),
    limit=st.none() | st.integers(0, 20),
)
deaths_before = st.lists(st.floats(0, 1000), max_size=2000).map(sorted)


def decide(count: int, policy: RestartPolicy = POLICY) -> Again | GiveUp:
    """The decision after so many deaths, one a second."""
    return after_death(policy, [float(at) for at in range(count)], float(count - 1), 0.5, "exit code 1")


def test_each_death_waits_longer_up_to_the_ceiling() -> None:
    """The wait doubles with each death within the window and stays at the ceiling."""
    waits = [decision.after_s for count in range(1, 8) if isinstance(decision := decide(count), Again)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_restarts_that_come_too_fast_are_called_so() -> None:
    """From the third death within the window on the decision says that restarts come too fast, with the count."""
    found = [decide(count) for count in (1, 2, 3)]
    assert [one.too_fast for one in found if isinstance(one, Again)] == [False, False, True]
    assert "restarts too fast: it ended 3 times in 60 s" in found[2].reason


def test_a_limit_ends_the_restarts() -> None:
    """With a limit of two restarts the third death within the window is the last, and the reason says why."""
    policy = RestartPolicy(limit=2)
    assert isinstance(decide(2, policy), Again)
    last = decide(3, policy)
    assert isinstance(last, GiveUp)
    assert "exit code 1" in last.reason


def test_a_quiet_window_forgets() -> None:
    """A death after a window without any counts as the first."""
    decision = after_death(POLICY, [0.0, 1.0, 2.0, 100.0], 100.0, 0.5, "x")
    assert decision == Again(0.5, False, decision.reason)


@given(policies, deaths_before, st.floats(0, 1, exclude_max=True))
def test_the_wait_is_bounded(policy: RestartPolicy, before: list[float], chance: float) -> None:
    """Whatever the history, the wait lies within the ceiling and its jitter, and a limit is never exceeded."""
    deaths = [*before, 1000.0]
    decision = after_death(policy, deaths, 1000.0, chance, "x")
    if isinstance(decision, Again):
        assert 0 <= decision.after_s <= policy.ceiling_s * (1 + policy.jitter) * (1 + 1e-9)
        assert policy.limit is None or len(recent(policy, deaths, 1000.0)) <= policy.limit
    else:
        assert policy.limit is not None
