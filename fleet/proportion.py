"""A proportion and its 95 % interval: no success rate in this project stands without one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_Z95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True, slots=True)
class Proportion:
    """So many successes in so many attempts."""

    successes: int
    attempts: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Proportion:
        """Count ``outcomes``."""
        counted = list(outcomes)
        return cls(successes=sum(counted), attempts=len(counted))

    @property
    def rate(self) -> float | None:
        """Share of successes; None without attempts."""
        return self.successes / self.attempts if self.attempts else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % score interval; None without attempts."""
        if not self.attempts:
            return None
        n, p, z2 = self.attempts, self.successes / self.attempts, _Z95**2
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        return max(0.0, centre - half), min(1.0, centre + half)

    def __add__(self, other: Proportion) -> Proportion:
        return Proportion(
            successes=self.successes + other.successes, attempts=self.attempts + other.attempts
        )

    def __sub__(self, part: Proportion) -> Proportion:
        return Proportion(
            successes=self.successes - part.successes, attempts=self.attempts - part.attempts
        )

    def __str__(self) -> str:
        if self.rate is None or self.interval is None:
            return "-"
        low, high = self.interval
        return f"{self.rate:.0%} [{low:.0%}, {high:.0%}]"
