"""The index rules of Consul's blocking queries."""

from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.blocking_queries import MAX_BLOCK_S, Pace, block_s, next_index

indexes = st.integers(0, 2**60)


@given(indexes, indexes)
def test_an_index_that_goes_back_is_forgotten(asked: int, told: int) -> None:
    """After an index that went back the next look does not block; any other is followed, as 1 at least."""
    index = next_index(asked, told)
    assert index == (0 if told < asked else max(1, told))


@given(st.floats(-10, 1e6))
def test_the_server_is_asked_to_answer_in_time(left_s: float) -> None:
    """With the sixteenth that a server adds, the answer comes within the time left and within the longest block."""
    asked = block_s(left_s)
    assert asked > 0
    assert asked * 17 / 16 <= max(0.0011, min(left_s, MAX_BLOCK_S)) + 1e-9


@given(st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 0.999)), min_size=40, max_size=80))
def test_a_watch_is_no_loop(looks: list[tuple[float, float]]) -> None:
    """However fast answers come, looks stay below the pace once the first two are spent."""
    pace, now = Pace(), 0.0
    for took_s, chance in looks:
        now += pace.pause_s(now, chance) + took_s
    assert now >= (len(looks) - 3) / 4.0 - 0.5


def test_the_first_looks_do_not_wait() -> None:
    """Reading and then blocking, which every watch begins with, takes no pause."""
    pace = Pace()
    assert [pace.pause_s(5.0, 0.9), pace.pause_s(5.0, 0.9)] == [0.0, 0.0]
    assert pace.pause_s(5.0, 0.0) > 0
