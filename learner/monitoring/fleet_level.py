"""How well the whole fleet does at the moment, in log-odds: what a robot is compared against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KNOWN_AFTER = 100
"""Attempts after which the level of a mode that came later can be compared against."""
RELEASE_VARIANCE = 0.06
"""Of the step that a release may make in log-odds: a standard deviation of a quarter."""
RELEASE_SETTLES = 200
"""Attempts of the fleet between releases from which one counts in full. Releases that come every
few attempts change little each, and would otherwise keep the level from ever being known."""
ATTEMPT_VARIANCE = 5e-6
"""Of the step that the world makes from one attempt of the fleet to the next."""
_UNKNOWN_VARIANCE = 1.0


class FleetLevel:
    """The level common to all robots, one for each mode of attempt.

    A Kalman filter in its extended form, for a dynamic logistic model: the log-odds of an attempt
    are this level plus what is the robot's own. Modes are apart since exploring costs success.
    """

    def __init__(self, modes: int) -> None:
        self.log_odds: Floats = np.zeros(modes)
        self.variance: Floats = np.full(modes, _UNKNOWN_VARIANCE)
        self.attempts: Ints = np.zeros(modes, np.int64)
        self.release = 0
        self.since_release = 0

    @property
    def reference(self) -> int:
        """The mode that most attempts were made in."""
        return int(self.attempts.argmax())

    def is_known(self) -> NDArray[np.bool_]:
        """Say of each mode whether robots can be compared in it.

        They can from the start in the first one: whatever the level is taken for there, a robot's
        own part makes up for it.
        """
        known = self.attempts >= KNOWN_AFTER
        known[self.reference] = True
        return known

    def begin(self, modes: Ints) -> None:
        """Give modes that are met for the first time the level of the one known best."""
        fresh = np.unique(modes[self.attempts[modes] == 0])
        if not len(fresh):
            return
        if not self.attempts.any():
            self.variance[fresh[0]] = 0.0
        self.log_odds[fresh] = self.log_odds[self.reference]

    def move_on(self, used: int, newest: int | None = None) -> None:
        """Allow for the step that another release makes.

        Args:
            used: the newest that a robot uses.
            newest: that there is, where it is known. When it is below the one that was last in use,
                releases are counted from the beginning again.
        """
        if used > self.release or (newest is not None and newest < self.release):
            share = min(1.0, self.since_release / RELEASE_SETTLES)
            self.variance += share * RELEASE_VARIANCE
            self.release, self.since_release = used, 0

    def learn(self, modes: Ints, predicted: Floats, succeeded: NDArray[np.bool_]) -> None:
        """Take attempts in that were predicted from the level and from what is the robots' own.

        Args:
            modes: int[N].
            predicted: probability of success, float[N].
            succeeded: bool[N].
        """
        count = len(self.log_odds)
        residual = np.bincount(modes, succeeded - predicted, count)
        information = np.bincount(modes, predicted * (1.0 - predicted), count)
        self.variance += len(modes) * ATTEMPT_VARIANCE
        self.variance /= 1.0 + self.variance * information
        self.log_odds += self.variance * residual
        self.attempts += np.bincount(modes, minlength=count)
        self.since_release += len(modes)
