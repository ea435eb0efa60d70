"""A burst at once, then a steady rate, whatever the clock does; a debt is paid back first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfl.mesh.token_bucket import TokenBucket

STEPS = st.lists(st.floats(0, 3, allow_nan=False), max_size=60)


@given(burst=st.integers(1, 20), per_s=st.floats(0, 10), steps=STEPS)
def test_no_more_is_ever_taken_than_the_burst_and_what_has_flowed_in(
    burst: int, per_s: float, steps: list[float]
) -> None:
    bucket, now, taken = TokenBucket(burst, per_s, 0.0), 0.0, 0
    for step in steps:
        now += step
        while bucket.try_spend(now):
            taken += 1
        assert taken <= burst + per_s * now + 1e-6


def test_the_burst_is_there_at_once_and_comes_back() -> None:
    bucket = TokenBucket(3, 2.0, 10.0)
    assert [bucket.try_spend(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.try_spend(10.5)
    assert not bucket.try_spend(10.5)
    assert [bucket.try_spend(99.0) for _ in range(4)] == [True, True, True, False]


def test_what_was_used_beyond_it_is_paid_back_first() -> None:
    bucket = TokenBucket(1, 1.0, 0.0)
    for _ in range(5):
        bucket.spend_on_credit(0.0)
    assert bucket.is_empty(4.5)
    assert not bucket.is_empty(5.1)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1, 1.0, 100.0)
    assert bucket.try_spend(100.0)
    assert not bucket.try_spend(50.0)
    assert not bucket.try_spend(50.5)
