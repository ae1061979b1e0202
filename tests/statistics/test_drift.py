"""The drift test on simulated fleets, few enough for every run; drift_report has the many."""

from __future__ import annotations

import numpy as np

from learner.monitoring.drift_detector import DriftDetector, Round
from tests.statistics.drift_fleets import Scenario, delays, simulate


def test_few_robots_are_alarmed_without_drift():
    scenario = Scenario(robots=60, attempts=4_000, change_at=2_000)
    assert np.isfinite(simulate(scenario).any).mean() <= 0.05


def test_a_drop_from_90_to_70_percent_is_found_within_90_attempts_in_the_median():
    scenario = Scenario(
        robots=120,
        usual=(0.9, 0.9),
        change="none",
        dropped=15,
        drop_at=500,
        drop_to=0.7,
        attempts=900,
    )
    found = simulate(scenario)
    assert np.median(delays(found.success, scenario)) <= 90
    assert np.median(delays(found.calibration, scenario)) <= 90


def test_few_robots_are_alarmed_whose_failures_run_together():
    robots, random = 40, np.random.default_rng(0)
    test = DriftDetector()
    test.add_robots(robots)
    hard, alarmed = np.zeros(robots, np.bool_), np.zeros(robots, np.bool_)
    for _ in range(1_500):
        hard = np.where(hard, random.random(robots) > 0.2, random.random(robots) < 0.02)
        test.observe(
            Round(
                rows=np.arange(robots),
                modes=np.zeros(robots, np.int64),
                releases=np.ones(robots, np.int64),
                offsets=np.zeros(robots),
                succeeded=random.random(robots) < np.where(hard, 0.3, 0.87),
            )
        )
        alarmed |= test.alarms()
    assert alarmed.mean() <= 0.1, "ninety of a hundred, if attempts were taken for independent"
