"""A value that costs something to make, and serves everyone who asks soon after."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class RecentValue(Generic[Value]):
    """Makes its value at most once per period, one at a time. Any thread may ask."""

    def __init__(
        self,
        make: Callable[[], Value],
        kept_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is made before somebody asks.

        Args:
            make: returns the value as it is now.
            kept_s: for how long a value serves, seconds.
            clock: what that is measured by.
        """
        self._make = make
        self._kept_s = kept_s
        self._clock = clock
        self._turn = threading.Lock()
        self._made: tuple[Value, float] | None = None
        """With when it was ready: those who waited for it shall not make another one."""

    def get(self) -> Value:
        """Return a value that is at most ``kept_s`` old; whatever ``make`` raises is raised."""
        with self._turn:
            if self._made is None or self._clock() - self._made[1] >= self._kept_s:
                self._made = None
                value = self._make()
                self._made = value, self._clock()
            return self._made[0]
