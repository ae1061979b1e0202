"""Attempts that wait for being looked at by the drift watch, each robot's in a line of its own."""

from __future__ import annotations

import threading
from collections import Counter, deque

import msgspec


class DriftAttempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the tests of drift need of an attempt."""

    robot_id: str
    mode: int
    release: int
    predicted: float | None
    succeeded: bool


class DriftQueue:
    """Bounded, and shared fairly: what one robot makes too many of is left out of that one alone.

    Any thread may call any method.
    """

    def __init__(self, most: int) -> None:
        """Begin empty.

        Args:
            most: attempts in all. A robot that has less than an equal share of these may still
                add some when they are reached, so that there are never more than twice as many.
        """
        self._most = most
        self._lines: dict[str, deque[DriftAttempt]] = {}
        """Oldest first; robots of which none waits are not in it."""
        self._count = 0
        self._left_out: Counter[str] = Counter()
        self._lock = threading.Lock()

    def put(self, attempt: DriftAttempt) -> None:
        """Add an attempt as the newest of its robot, or leave it out."""
        robot_id = attempt.robot_id
        with self._lock:
            line = self._lines.setdefault(robot_id, deque())
            if self._count >= self._most and len(line) * len(self._lines) >= self._most:
                self._left_out[robot_id] += 1
                return
            line.append(attempt)
            self._count += 1

    def take(self) -> list[DriftAttempt]:
        """Remove and return the oldest attempt of every robot that has one."""
        with self._lock:
            found = [line.popleft() for line in self._lines.values()]
            self._lines = {robot_id: line for robot_id, line in self._lines.items() if line}
            self._count -= len(found)
        return found

    def take_left_out(self) -> Counter[str]:
        """Return by robot how many were left out since the last time."""
        with self._lock:
            found, self._left_out = self._left_out, Counter()
        return found
