"""A set of sequences, kept as runs of consecutive ones: a robot's spool is a few of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Self


class SequenceSet:
    """Positive integers. Costs memory and time by the runs, not by the numbers."""

    def __init__(self, runs: Iterable[range] = ()) -> None:
        """Hold the numbers of these runs, which may overlap."""
        self._firsts: list[int] = []
        self._ends: list[int] = []
        """Behind the last of each run, in the order of ``_firsts``."""
        for run in sorted((one for one in runs if one), key=lambda one: one.start):
            if self._ends and run.start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], run.stop)
            else:
                self._firsts.append(run.start)
                self._ends.append(run.stop)

    def add(self, number: int) -> bool:
        """Take a number in; return False when it was there."""
        at = bisect_right(self._firsts, number)
        if at and number < self._ends[at - 1]:
            return False
        joins_left = at > 0 and self._ends[at - 1] == number
        joins_right = at < len(self._firsts) and self._firsts[at] == number + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            del self._firsts[at]
        elif joins_left:
            self._ends[at - 1] = number + 1
        elif joins_right:
            self._firsts[at] = number
        else:
            self._firsts.insert(at, number)
            self._ends.insert(at, number + 1)
        return True

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number)
        return at > 0 and number < self._ends[at - 1]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.runs())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SequenceSet) and self.runs() == other.runs()

    def __or__(self, other: Self) -> SequenceSet:
        return SequenceSet([*self.runs(), *other.runs()])

    def __and__(self, other: Self) -> SequenceSet:
        mine, theirs = self.runs(), other.runs()
        shared: list[range] = []
        here = there = 0
        while here < len(mine) and there < len(theirs):
            a, b = mine[here], theirs[there]
            shared.append(range(max(a.start, b.start), min(a.stop, b.stop)))
            here, there = (here + 1, there) if a.stop < b.stop else (here, there + 1)
        return SequenceSet(shared)

    def __sub__(self, other: Self) -> SequenceSet:
        left: list[range] = []
        taken = other.runs()
        at = 0
        for run in self.runs():
            first = run.start
            while at < len(taken) and taken[at].start < run.stop:
                left.append(range(first, taken[at].start))
                first = max(first, taken[at].stop)
                if taken[at].stop > run.stop:
                    break  # it reaches into the next run too
                at += 1
            left.append(range(first, run.stop))
        return SequenceSet(left)

    @property
    def count(self) -> int:
        """How many numbers there are; more than ``len`` could say."""
        return sum(self._ends) - sum(self._firsts)

    @property
    def run_count(self) -> int:
        """How many runs there are."""
        return len(self._firsts)

    @property
    def highest(self) -> int:
        """The highest number; 0 when there is none."""
        return self._ends[-1] - 1 if self._ends else 0

    def runs(self) -> list[range]:
        """Return the runs, ascending; no two of them touch."""
        return [range(first, end) for first, end in zip(self._firsts, self._ends, strict=True)]
