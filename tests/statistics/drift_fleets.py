"""Simulated fleets before the drift test: when is which robot alarmed.

Attempts differ in difficulty. The network predicts it, with an error of each robot's own that stays
as it is, and knows nothing of a drop. The code under test is the very one that the gateway runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from learner.monitoring.drift_detector import DriftDetector, Round, log_odds_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_DIFFICULTY = 0.8
"""Standard deviation over attempts, log-odds."""
_OVERCONFIDENCE = 0.4
"""Standard deviation over robots, log-odds."""
_COST_OF_EXPLORING = 1.0
"""Log-odds."""
Change = Literal["none", "halved", "lifted", "worse", "learning"]
"""What releases do to all robots. One release, at a stated attempt: nothing, halves their failures,
adds 0.8 to their log-odds, or makes half as many failures again. Learning: a release at every
attempt, which lift log-odds evenly by 3 in all until the stated attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """One kind of fleet; robots of one make an attempt each at a time."""

    robots: int = 6
    fleets: int = 1
    attempts: int = 10_000
    usual: tuple[float, float] = (0.6, 0.95)
    """Success of robots is drawn evenly between these."""
    change: Change = "halved"
    change_at: int = 5_000
    exploring: float = 0.0
    """Share of attempts."""
    dropped: int = 0
    """Robots of each fleet that drop after ``drop_at`` attempts ..."""
    drop_at: int = 0
    drop_to: float = 0.0
    """... to this success."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarms:
    """The attempt at which a test alarmed first, one entry a robot; infinity for never."""

    success: Floats
    calibration: Floats

    @property
    def any(self) -> Floats:
        """Of either test."""
        return np.minimum(self.success, self.calibration)


def simulate(scenario: Scenario) -> Alarms:
    """Run all fleets of a scenario."""
    first = np.concatenate(
        [
            _simulate_fleet(scenario, np.random.default_rng([scenario.seed, index]))
            for index in range(scenario.fleets)
        ],
        axis=1,
    )
    return Alarms(success=first[0], calibration=first[1])


def delays(first: Floats, scenario: Scenario) -> Floats:
    """Return how many attempts after its drop each robot was found; infinity for never.

    Robots that were alarmed before they dropped are left out.
    """
    dropped = np.arange(len(first)) % scenario.robots < scenario.dropped
    since = first[dropped] - scenario.drop_at
    return since[since > 0]


def _simulate_fleet(scenario: Scenario, rng: np.random.Generator) -> Floats:
    """Return float64[2, R]: first alarm by the tests of success and of calibration."""
    robots, dropped = scenario.robots, scenario.dropped
    tests = [_test_of(robots), _test_of(robots)]
    first = np.full((2, robots), np.inf)
    usual = rng.uniform(*scenario.usual, robots)
    overconfidence = rng.normal(0.0, _OVERCONFIDENCE, robots)
    before, after = _mean_to_log_odds(usual), _mean_to_log_odds(_changed(usual, scenario))
    low = _mean_to_log_odds(np.array([scenario.drop_to]))
    for attempt in range(1, scenario.attempts + 1):
        expected = after if attempt > scenario.change_at else before
        if scenario.change == "learning":
            expected = before - 3.0 * max(0.0, 1.0 - attempt / scenario.change_at)
        exploring = rng.random(robots) < scenario.exploring
        ease = rng.normal(0.0, _DIFFICULTY, robots) - _COST_OF_EXPLORING * exploring
        real = expected.copy()
        if attempt > scenario.drop_at:
            real[:dropped] = low
        succeeded = rng.random(robots) < _probability(real + ease)
        predicted = _probability(expected + ease + overconfidence)
        for row, offsets in enumerate((np.zeros(robots), log_odds_of(predicted))):
            tests[row].observe(
                Round(
                    rows=np.arange(robots),
                    modes=exploring.astype(np.int64),
                    releases=np.full(robots, _release(scenario, attempt)),
                    offsets=offsets,
                    succeeded=succeeded,
                )
            )
            first[row, tests[row].alarms() & np.isinf(first[row])] = attempt
        if dropped and np.isfinite(first[:, :dropped]).all():
            break
    return first


def _test_of(robots: int) -> DriftDetector:
    test = DriftDetector(modes=2)
    test.add_robots(robots)
    return test


def _release(scenario: Scenario, attempt: int) -> int:
    if scenario.change == "learning":
        return min(attempt, scenario.change_at)
    return 1 + (scenario.change != "none" and attempt > scenario.change_at)


def _changed(usual: Floats, scenario: Scenario) -> Floats:
    if scenario.change == "halved":
        return 1.0 - (1.0 - usual) / 2
    if scenario.change == "worse":
        return 1.0 - (1.0 - usual) * 1.5
    if scenario.change == "lifted":
        return _probability(np.log(usual / (1.0 - usual)) + 0.8)
    return usual


def _probability(log_odds: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-log_odds))


_GRID = np.linspace(-6.0, 8.0, 1401)
_EASE = _DIFFICULTY * np.random.default_rng(0).standard_normal(20_000)
_MEANS = np.array([_probability(value + _EASE).mean() for value in _GRID])


def _mean_to_log_odds(success: Floats) -> Floats:
    """Return the log-odds of a middling attempt where so many succeed on average."""
    return np.interp(success, _MEANS, _GRID)
