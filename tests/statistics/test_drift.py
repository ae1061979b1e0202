"""The drift test on simulated fleets, few enough for every run; drift_report has the many."""

from __future__ import annotations

import numpy as np

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
