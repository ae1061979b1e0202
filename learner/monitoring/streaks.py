"""How far one attempt of a robot tells of the next: what a streak of failures is worth.

Objects of a bin are tried one after the other, so failures come in runs: the last, awkward one is
tried ten times. Taken for independent, such a run looks like a drift. How much outcomes run
together is measured, and the evidence of each is made weaker by it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from learner.monitoring.fleet_level import Floats, Ints

_FADE = 0.95
"""Of what earlier outcomes count, from one attempt to the next: some twenty are looked back on."""
_BLOCK = 100
"""Attempts. What was measured counts after one or two of them: a robot that has just dropped fails
more often too, and must not be excused by that."""
_KEPT = 0.97
"""Of what is known, with each block: some 3,000 attempts are remembered."""
_OF_FLEET = 1_500.0
"""Attempts that the fleet's figure counts as beside a robot's own."""
_AT_FIRST = 1.0
"""The figure of a fleet of which nothing is known yet ..."""
_AT_FIRST_COUNTS = 200.0
"""... which counts as so many attempts."""
_CAUTION = 3.0
"""Two would do for the variance of many attempts; runs are rougher than that, and longer ones than
what is looked back on are seen in part."""
_MOST = 10.0
_SETTLED, _EARLIER, _LATEST = range(3)
OF_STREAKS = ("trace", "sums")
"""The arrays that have a row for each robot."""


class Streaks:
    """Sums of autocorrelations of robots' outcomes, each beside what was expected of it."""

    def __init__(self) -> None:
        self.trace: Floats = np.empty(0)
        """float64[R]: earlier outcomes' standardised residuals, fading."""
        self.sums: Floats = np.empty((0, 3, 2))
        """float64[R, 3, 2]: products of residual and trace, and of how many attempts; those that
        count, of the block before, and of the one that is being filled."""

    def add_robots(self, count: int) -> None:
        """Make room for robots of which nothing is known."""
        self.trace = np.concatenate((self.trace, np.zeros(count)))
        self.sums = np.concatenate((self.sums, np.zeros((count, 3, 2))))

    def tempering(self, rows: Ints) -> Floats:
        """Return float64[N]: what an attempt's evidence is worth, of what it were if independent.

        It comes from earlier attempts only, so that the test stays one that may be looked at
        whenever one likes.
        """
        products, attempts = self.sums[:, _SETTLED].sum(0)
        of_fleet = (products + _AT_FIRST_COUNTS * _AT_FIRST) / (attempts + _AT_FIRST_COUNTS)
        own = self.sums[rows, _SETTLED]
        together = (own[:, 0] + _OF_FLEET * of_fleet) / (own[:, 1] + _OF_FLEET)
        worth: Floats = 1.0 / (1.0 + _CAUTION * np.clip(together, 0.0, _MOST))
        return worth

    def learn(self, rows: Ints, predicted: Floats, succeeded: NDArray[np.bool_]) -> None:
        """Take in outcomes of robots that differ and have no alarm, with what was expected."""
        expected = np.clip(predicted, 0.02, 0.98)
        residual = (succeeded - expected) / np.sqrt(expected * (1.0 - expected))
        self.sums[rows, _LATEST, 0] += residual * self.trace[rows]
        self.sums[rows, _LATEST, 1] += 1.0
        self.trace[rows] = _FADE * self.trace[rows] + residual
        full = rows[self.sums[rows, _LATEST, 1] >= _BLOCK]
        self.sums[full, _SETTLED] = _KEPT * self.sums[full, _SETTLED] + self.sums[full, _EARLIER]
        self.sums[full, _EARLIER] = self.sums[full, _LATEST]
        self.sums[full, _LATEST] = 0.0

    def drop_latest(self, rows: Ints) -> None:
        """Leave out what robots did lately, which was an alarm's cause."""
        self.trace[rows] = 0.0
        self.sums[rows, _EARLIER:] = 0.0
