import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.proportion import Proportion


def test_wilson_interval_agrees_with_the_published_example():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    low, high = Proportion(successes=81, attempts=263).interval
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_no_attempts_have_no_rate_and_no_interval():
    nothing = Proportion(successes=0, attempts=0)
    assert nothing.rate is None
    assert nothing.interval is None
    assert str(nothing) == "-"


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_lies_within_zero_and_one_and_holds_the_rate(counts):
    successes, attempts = counts
    proportion = Proportion(successes=successes, attempts=attempts)
    low, high = proportion.interval
    assert 0 <= low <= proportion.rate + 1e-12
    assert proportion.rate - 1e-12 <= high <= 1


def test_proportions_add_up():
    total = Proportion(successes=1, attempts=2) + Proportion(successes=3, attempts=5)
    assert total == Proportion(successes=4, attempts=7)
