"""Latency digests: bounded, mergeable, and right to within a bin."""

import math

from hypothesis import given
from hypothesis import strategies as st

from rdv.serving.gateway.digest import STEPS, Digest, bin_of, edges_us

seconds = st.floats(0, 4000)


@given(st.integers(-5, 2**40))
def test_every_latency_lies_in_its_bin(microseconds: int) -> None:
    """A latency's bin holds it, and is at most 1/16 wider than where it begins."""
    low, high = edges_us(bin_of(microseconds))
    clipped = min(max(microseconds, 0), 2**32 - 1)
    assert low <= clipped < high
    assert high - low <= max(1, low / STEPS)


@given(st.integers(0, 2**32 - 2))
def test_bins_follow_each_other(microseconds: int) -> None:
    """Bins have no gaps: the next microsecond is in the same bin or in the next one."""
    assert bin_of(microseconds + 1) - bin_of(microseconds) in (0, 1)
    assert edges_us(bin_of(microseconds))[1] == edges_us(bin_of(microseconds) + 1)[0]


@given(st.lists(seconds, min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_right_to_a_bin(latencies: list[float], share: float) -> None:
    """A quantile is in the bin of the latency that has this rank."""
    digest = Digest()
    for latency in latencies:
        digest.add(latency)
    rank = max(1, math.ceil(share * len(latencies) - 1e-9))
    exact = sorted(int(latency * 1e6) for latency in latencies)[rank - 1]
    found = digest.quantile_ms(share)
    assert found is not None
    assert bin_of(int(found * 1e3 + 1e-6)) == bin_of(exact)


@given(st.lists(seconds, max_size=50), st.lists(seconds, max_size=50))
def test_merging_is_counting_together(one: list[float], other: list[float]) -> None:
    """Merged digests say what one digest of everything would say."""
    left, right, both = Digest(), Digest(), Digest()
    for latency in one:
        left.add(latency)
        both.add(latency)
    for latency in other:
        right.add(latency)
        both.add(latency)
    left.merge(right)
    assert (left.bins, left.count) == (both.bins, both.count)
    assert math.isclose(left.sum_s, both.sum_s, abs_tol=1e-9)


def test_size_is_bounded() -> None:
    """However many different latencies are added, the bins are few."""
    digest = Digest()
    for exponent in range(-10, 40):
        for step in range(100):
            digest.add(2.0**exponent * (1 + step / 100) * 1e-6)
    assert len(digest.bins) <= STEPS * 30


def test_nothing_has_no_quantile() -> None:
    """An empty digest has no quantiles and no share above a limit, and says so without an error."""
    assert Digest().quantile_ms(0.5) is None
    assert Digest().share_above(1.0) == 0.0
    assert Digest().summary() == {"count": 0, "p50_ms": None, "p99_ms": None, "p999_ms": None}


def test_share_above_a_limit() -> None:
    """The share above a limit counts whole bins that begin at or past it."""
    digest = Digest()
    for _ in range(9):
        digest.add(0.001)
    digest.add(0.5)
    assert digest.share_above(80.0) == 0.1
