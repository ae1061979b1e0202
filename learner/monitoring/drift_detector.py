"""The sequential test that notices when one robot leaves its past.

The log-odds of an attempt are modelled as the fleet's level (see fleet_level), plus a known offset
(nothing for success; the log-odds of the prediction for calibration), plus what is the robot's own.
A robot that does not drift keeps its own part; drift lowers it by one of a few shifts, from some
attempt on and for good.

For every value g of the own part and every shift d, a Shiryaev-Roberts statistic adds up the
likelihood ratios of a shift that began at attempt n, over all n, weighted by 1 / (n + 500). Since
the own part is unknown, the statistics are averaged over its posterior distribution under no drift.
That average M is what the test watches. It is an e-detector (Shin, Ramdas, Rinaldo 2024,
"E-detectors: a nonparametric framework for sequential change detection") whose null is a Bayesian
mixture, as in Bayes factors that may be looked at whenever one likes (Hendriksen, de Heide,
Gruenwald 2021, "Optional stopping with Bayes factors").

Guarantee. When own parts are distributed as the prior says, M less the sum of the weights so far is
a martingale. So the share of robots without drift that M ever alarms within N attempts is at most
the sum of N weights over the threshold: ``false_alarms`` for 10,000 attempts, 1.7 times that for
100,000. It is exact for the mixture and a known fleet level. For single values of the own part, and
with the level estimated, the simulations in tests/statistics bear it out (docs/drift.md). Outcomes
that run together (see streaks) make likelihood ratios count for less, as powers below one: by
Jensen's inequality M then grows by less than the weights.

Legend: R robots, N robots of a round, S shifts, G values of the own part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learner.monitoring.fleet_level import RELEASE_SETTLES, FleetLevel, Floats, Ints
from learner.monitoring.streaks import Streaks

HORIZON = 10_000
"""Attempts within which the share of false alarms is as asked for."""
RELEARN_AFTER = 1_000
"""Attempts after which a robot that stayed where it drifted to has that as its past."""
_STEP = 0.15
"""Of log-odds, between the values that the own part may have."""
_LOWEST, _VALUES = -4.05, 62
_SHIFTS = (5, 9, 14)
"""In steps: 0.75, 1.35 and 2.1 of log-odds; 0.9 to 0.81, to 0.7 and to 0.52."""
_SPAN = max(_SHIFTS)
_OWN_VARIANCE = 1e-5
"""Of the step that the own part makes at every attempt without being drift: 0.3 in 10,000."""
_WALK_EVERY = 16
"""Attempts: it makes several of those steps in one."""
_RELEASE_VARIANCE = 0.02
"""Of the step that it makes with a release, beside what that does to all robots."""
_EARLY = 500
_CEILING = 10.0
"""Times the threshold: no more evidence is kept, so that a robot that recovers is seen to."""
_CLEARED = 1e-3
"""Of the threshold: an alarm ends below it."""
OF_ROBOTS = (
    "steady",
    "shifted",
    "held",
    "onset",
    "attempts",
    "alarmed_for",
    "release",
    "since_release",
)
"""The arrays of a test that have a row for each robot."""
GRID = _LOWEST + _STEP * np.arange(-_SPAN, _VALUES)
"""float64[S + G]: the values, and below them what shifts lead to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Attempts of robots that differ, N of them."""

    rows: Ints
    modes: Ints
    releases: Ints
    offsets: Floats
    """Log-odds that are known before the attempt's outcome."""
    succeeded: NDArray[np.bool_]
    newest_release: int | None = None
    """As those know it who publish releases; None takes the robots at their word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a drift looks like, if it is one."""

    before: float
    """Probability of success without it, at the offset asked for and the fleet's level now."""
    now: float
    since: int
    """Attempts since it began."""
    evidence: float
    """As a share of what raises the alarm."""


class DriftDetector:
    """The test over all robots of a fleet; belongs to one thread.

    Takes 2 KB for a robot, however many attempts it makes, and time in proportion to the attempts.
    """

    def __init__(self, modes: int = 1, false_alarms: float = 0.025) -> None:
        """Begin without robots.

        Args:
            modes: how many kinds of attempt there are.
            false_alarms: share of robots that may be alarmed without drift within HORIZON
                attempts.
        """
        self.threshold = math.log1p(HORIZON / _EARLY) / false_alarms
        self.level = FleetLevel(modes)
        self.streaks = Streaks()
        self.steady: Floats = np.empty((0, _VALUES))
        """float64[R, G]: probability of the own part without drift."""
        self.shifted: Floats = np.empty((0, len(_SHIFTS), _VALUES))
        """float64[R, S, G]: weighted likelihood of a shift, over that without drift."""
        self.held: Floats = np.empty((0, len(_SHIFTS)))
        """float64[R, S]: its sums."""
        self.onset: Floats = np.empty((0, len(_SHIFTS)))
        """float64[R, S]: the attempt at which a shift began, on average over when it may have."""
        self.attempts: Ints = np.empty(0, np.int64)
        """int[R]: since the past began that the robot is compared with."""
        self.alarmed_for: Ints = np.empty(0, np.int64)
        """int[R]: attempts since the alarm; -1 without one."""
        self.release: Ints = np.empty(0, np.int64)
        """int[R]: the one that the robot was last seen to use."""
        self.since_release: Ints = np.empty(0, np.int64)
        """int[R]: attempts since it used another one."""

    def add_robots(self, count: int) -> None:
        """Make room for robots of which nothing is known, in the rows behind the others."""
        rows = len(self.attempts) + np.arange(count)
        for name in OF_ROBOTS:
            array = getattr(self, name)
            room = np.zeros((count, *array.shape[1:]), array.dtype)
            setattr(self, name, np.concatenate((array, room)))
        self.streaks.add_robots(count)
        self._forget(rows)

    def evidence(self) -> Floats:
        """Return float64[R]: the share that there is of what raises the alarm."""
        found: Floats = self.held.sum(1) / self.threshold
        return found

    def alarms(self) -> NDArray[np.bool_]:
        """Return bool[R]."""
        raised: NDArray[np.bool_] = self.alarmed_for >= 0
        return raised

    def observe(self, attempts: Round) -> None:
        """Take in what some robots did, one attempt each."""
        self.level.begin(attempts.modes)
        releases = attempts.releases
        if attempts.newest_release is not None:
            releases = np.minimum(releases, attempts.newest_release)
        self.level.move_on(int(releases.max()), attempts.newest_release)
        self._recentre()
        log_odds = self.level.log_odds[attempts.modes] + attempts.offsets
        sign = np.where(attempts.succeeded, -1.0, 1.0)[:, None]
        outcome_NG = 1.0 / (1.0 + np.exp(sign * (log_odds[:, None] + GRID)))
        likely = np.einsum("ng,ng->n", self.steady[attempts.rows], outcome_NG[:, _SPAN:])
        predicted = np.where(attempts.succeeded, likely, 1.0 - likely)
        calm = self.alarmed_for[attempts.rows] < 0
        # All robots of the round were predicted from the level before it.
        self.level.learn(attempts.modes[calm], predicted[calm], attempts.succeeded[calm])
        known = self.level.is_known()[attempts.modes]
        self._weigh(attempts.rows[known], (outcome_NG / likely[:, None])[known])
        self.streaks.learn(attempts.rows[calm], predicted[calm], attempts.succeeded[calm])
        self._judge(attempts.rows[known])
        self._walk(attempts.rows, releases)

    def estimate(self, row: int, offset: float = 0.0) -> Estimate:
        """Describe the drift of a robot, at a given offset."""
        log_odds = self.level.log_odds[self.level.reference] + offset
        success = 1.0 / (1.0 + np.exp(-log_odds - GRID))
        weights = self.shifted[row]
        total = weights.sum()
        if not total:
            usual = float(self.steady[row] @ success[_SPAN:])
            return Estimate(before=usual, now=usual, since=0, evidence=0.0)
        now = [success[_SPAN - shift :][:_VALUES] for shift in _SHIFTS]
        onset = weights.sum(1) @ self.onset[row] / total
        return Estimate(
            before=float((weights * success[_SPAN:]).sum() / total),
            now=float((weights * now).sum() / total),
            since=int(self.attempts[row] - round(onset)),
            evidence=float(total / self.threshold),
        )

    def _weigh(self, rows: Ints, likelihood_NG: Floats) -> None:
        """Multiply what is believed of ``rows`` by how much likelier it made what happened."""
        steady_NG, shifted_NSG, held_NS = self.steady[rows], self.shifted[rows], self.held[rows]
        begun = self.attempts[rows]
        fresh = 1.0 / (len(_SHIFTS) * (begun + _EARLY))
        self.onset[rows] += (begun[:, None] - self.onset[rows]) * (
            fresh[:, None] / (held_NS + fresh[:, None])
        )
        shifted_NSG += (fresh[:, None] * steady_NG)[:, None]
        steady_likelihood_NG = likelihood_NG[:, _SPAN:]
        # In full once there is an alarm, so that it lasts while the robot stays as it is.
        worth_N = np.where(self.alarmed_for[rows] < 0, self.streaks.tempering(rows), 1.0)
        for index, shift in enumerate(_SHIFTS):
            ratio_NG = likelihood_NG[:, _SPAN - shift :][:, :_VALUES] / steady_likelihood_NG
            shifted_NSG[:, index] *= steady_likelihood_NG * ratio_NG ** worth_N[:, None]
        steady_NG *= steady_likelihood_NG
        self.steady[rows], self.shifted[rows] = steady_NG, shifted_NSG
        self.held[rows] = shifted_NSG.sum(2)
        self.attempts[rows] += 1

    def _walk(self, rows: Ints, releases: Ints) -> None:
        """Let own parts step before the next attempt: now and then, and with a new release."""
        variance = np.where(self.attempts[rows] % _WALK_EVERY == 0, _WALK_EVERY * _OWN_VARIANCE, 0)
        share = np.minimum(1.0, self.since_release[rows] / RELEASE_SETTLES)
        is_new = releases != self.release[rows]
        variance += np.where(is_new, share * _RELEASE_VARIANCE, 0.0)
        self.release[rows] = releases
        self.since_release[rows] = np.where(is_new, 0, self.since_release[rows] + 1)
        stepping = variance > 0
        if stepping.any():
            rows, variance = rows[stepping], variance[stepping]
            self.steady[rows] = _walked(self.steady[rows], variance[:, None])
            self.shifted[rows] = _walked(self.shifted[rows], variance[:, None, None])

    def _judge(self, rows: Ints) -> None:
        """Raise alarms and end them."""
        evidence = self.held[rows].sum(1) / self.threshold
        waiting = self.alarmed_for[rows]
        waiting = np.where(waiting >= 0, waiting + 1, np.where(evidence >= 1.0, 0, -1))
        self.streaks.drop_latest(rows[waiting == 0])
        self.alarmed_for[rows] = np.where(evidence < _CLEARED, -1, waiting)
        full = evidence > _CEILING
        if full.any():
            excess = evidence[full] / _CEILING
            self.shifted[rows[full]] /= excess[:, None, None]
            self.held[rows[full]] /= excess[:, None]
        self._forget(rows[waiting >= RELEARN_AFTER])

    def _forget(self, rows: Ints) -> None:
        """Let the past of these robots begin anew."""
        self.steady[rows] = 1.0 / _VALUES
        self.shifted[rows] = 0.0
        self.held[rows] = 0.0
        self.onset[rows] = 0.0
        self.attempts[rows] = 0
        self.alarmed_for[rows] = -1

    def _recentre(self) -> None:
        """Move the level near zero and the own parts with it, so that their values suffice."""
        cells = round(self.level.log_odds[self.level.reference] / _STEP)
        if cells:
            self.level.log_odds -= cells * _STEP
            self.steady = _moved(self.steady, cells)
            self.shifted = _moved(self.shifted, cells)


def log_odds_of(predicted: Floats) -> Floats:
    """Return the offsets of predicted probabilities.

    They are taken for between 0.02 and 0.98: a network that is quite sure may be wrong for once.
    """
    clipped = np.clip(predicted, 0.02, 0.98)
    log_odds: Floats = np.log(clipped / (1.0 - clipped))
    return log_odds


def _walked(mass: Floats, variance: Floats) -> Floats:
    """Let mass go to the neighbouring values, by a step of this variance; the last axis is G."""
    flow = np.diff(mass) * variance / (2 * _STEP**2)
    mass[..., :-1] += flow
    mass[..., 1:] -= flow
    return mass


def _moved(mass: Floats, cells: int) -> Floats:
    """Return the mass so many values higher; what would leave them stays on the last one."""
    moved = np.zeros_like(mass)
    for source in range(_VALUES):
        moved[..., min(max(source + cells, 0), _VALUES - 1)] += mass[..., source]
    return moved
