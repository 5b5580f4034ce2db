"""When a token is renewed."""

import math

from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.vault.lease import Due, Lease

seconds = st.floats(0, 1e7)


@given(seconds, st.floats(1, 1e6), st.floats(0, 2), st.booleans())
def test_a_token_is_renewed_at_two_thirds(since: float, ttl_s: float, part: float, renewable: bool) -> None:
    """A token rests for two thirds of its time, is then renewed if it can be, and after its time obtained anew."""
    lease, now = Lease(since, ttl_s, renewable), since + ttl_s * part
    age = (now - since) / ttl_s
    if abs(age - 2 / 3) < 1e-6 or abs(age - 1) < 1e-6:
        return
    wanted = Due.NOTHING if age < 2 / 3 else Due.RENEW if renewable and age < 1 else Due.LOGIN
    assert lease.due(now) is wanted
    assert (lease.due_in_s(now) == 0) == (age > 2 / 3)


@given(seconds, seconds)
def test_a_token_without_end_rests(since: float, age_s: float) -> None:
    """A token without a time limit is left alone for ever."""
    lease = Lease(since, 0.0, False)
    assert lease.due(since + age_s) is Due.NOTHING
    assert lease.due_in_s(since + age_s) == math.inf
