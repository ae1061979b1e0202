"""Sets of sequences against Python's own sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from learner.store.sequence_set import SequenceSet

NUMBERS = st.sets(st.integers(1, 40), max_size=30)


def as_runs(numbers: set[int]) -> SequenceSet:
    return SequenceSet(range(one, one + 1) for one in numbers)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_what_was_added_is_there_once(numbers: list[int]):
    found = SequenceSet()
    for at, number in enumerate(numbers):
        assert found.add(number) == (number not in numbers[:at])
    assert list(found) == sorted(set(numbers))
    assert found.count == len(set(numbers))
    assert found.highest == max(numbers, default=0)
    assert all((number in found) == (number in numbers) for number in range(45))
    runs = found.runs()
    assert all(one.stop < other.start for one, other in pairwise(runs))


@given(NUMBERS, NUMBERS)
def test_sets_are_joined_met_and_taken_from_each_other(one: set[int], other: set[int]):
    assert as_runs(one) | as_runs(other) == as_runs(one | other)
    assert as_runs(one) & as_runs(other) == as_runs(one & other)
    assert as_runs(one) - as_runs(other) == as_runs(one - other)


def test_sets_of_many_runs_are_taken_from_each_other_in_one_pass():
    count = 50_000
    odd = SequenceSet(range(one, one + 1) for one in range(1, 2 * count, 2))
    even = SequenceSet(range(one, one + 1) for one in range(2, 2 * count + 1, 2))
    assert odd - even == odd
    assert (odd - odd).count == 0
    assert SequenceSet([range(1, 2 * count + 1)]) - even == odd
