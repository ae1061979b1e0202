"""One robot's departure from its past, on attempts made up so that what happens is certain."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from learner.monitoring.drift_detector import (
    GRID,
    HORIZON,
    RELEARN_AFTER,
    DriftDetector,
    Round,
    log_odds_of,
)


def make_test(robots: int) -> DriftDetector:
    test = DriftDetector()
    test.add_robots(robots)
    return test


def observe(
    test: DriftDetector,
    succeeded: list[bool] | np.ndarray,
    *,
    release: int | list[int] = 1,
    newest: int | None = None,
    rows: list[int] | None = None,
) -> None:
    count = len(succeeded)
    test.observe(
        Round(
            rows=np.arange(count) if rows is None else np.array(rows),
            modes=np.zeros(count, np.int64),
            releases=np.broadcast_to(release, count).copy(),
            offsets=np.zeros(count),
            succeeded=np.array(succeeded),
            newest_release=newest,
        )
    )


def attempt(test: DriftDetector, success: list[float], rounds: int, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for _ in range(rounds):
        observe(test, random.random(len(success)) < success)


def rounds_until(test: DriftDetector, success: list[float], row: int, alarm: bool) -> int:
    random = np.random.default_rng(1)
    for count in range(1, 1_100):
        observe(test, random.random(len(success)) < success)
        if test.alarms()[row] == alarm:
            return count
    raise AssertionError("nothing changed")


def test_evidence_is_on_average_what_it_was_and_the_weight_of_one_attempt():
    """The equation that the guarantee rests on, at many points of a random history."""
    test, random = make_test(1), np.random.default_rng(0)
    test.streaks.sums[0, 0] = 0.0, 1e9  # known to be independent
    for count in range(300):
        log_odds = test.level.log_odds[0] + GRID[-test.steady.shape[1] :]
        chance = float(test.steady[0] @ (1 / (1 + np.exp(-log_odds))))
        both = copy.deepcopy(test), copy.deepcopy(test)
        observe(both[0], [False])
        observe(both[1], [True])
        after = (1 - chance) * both[0].shifted.sum() + chance * both[1].shifted.sum()
        assert after == pytest.approx(test.shifted.sum() + 1 / (count + 500))
        observe(test, [bool(random.random() < 0.8)])


def test_weights_of_ten_thousand_attempts_are_the_share_of_false_alarms_that_was_asked_for():
    weights = 1 / (np.arange(HORIZON) + 500)
    assert weights.sum() / DriftDetector(false_alarms=0.02).threshold == pytest.approx(0.02, 1e-2)


def test_a_robot_that_drops_is_alarmed_and_the_others_are_not():
    test = make_test(4)
    attempt(test, [0.9] * 4, 1_000)
    assert not test.alarms().any()
    attempt(test, [0.9, 0.6, 0.9, 0.9], 150)
    assert test.alarms().tolist() == [False, True, False, False]
    found = test.estimate(1)
    assert found.before == pytest.approx(0.9, abs=0.04)
    assert found.now == pytest.approx(0.6, abs=0.12)
    assert found.since == pytest.approx(150, abs=40)


def test_a_release_that_helps_or_harms_everybody_is_no_drift():
    for after in (0.95, 0.75):
        test = make_test(20)
        attempt(test, [0.88] * 20, 600)
        random = np.random.default_rng(2)
        for _ in range(600):
            observe(test, random.random(20) < after, release=2)
        assert not test.alarms().any()


def test_an_alarm_ends_when_the_robot_is_as_before():
    test = make_test(3)
    attempt(test, [0.9] * 3, 800)
    rounds_until(test, [0.6, 0.9, 0.9], 0, alarm=True)
    assert rounds_until(test, [0.9] * 3, 0, alarm=False) < 200


def test_what_a_robot_has_done_for_long_is_its_past_although_it_is_worse():
    test = make_test(3)
    attempt(test, [0.9] * 3, 800)
    rounds_until(test, [0.6, 0.9, 0.9], 0, alarm=True)
    assert rounds_until(test, [0.6, 0.9, 0.9], 0, alarm=False) == RELEARN_AFTER
    attempt(test, [0.6, 0.9, 0.9], 500)
    assert not test.alarms().any()


def test_robots_that_attempt_more_often_than_others_have_pasts_of_their_own_length():
    test = make_test(2)
    for count in range(60):
        observe(test, [True], rows=[1])
        if count % 3 == 0:
            observe(test, [True], rows=[0])
    assert test.attempts.tolist() == [20, 60]


def test_a_fleet_that_learns_from_nothing_leaves_no_robot_without_a_past():
    test, random = make_test(5), np.random.default_rng(3)
    log_odds = np.linspace(-3.0, 3.0, 3_000)
    for count, level in enumerate(log_odds):
        observe(test, random.random(5) < 1 / (1 + np.exp(-level)), release=count // 20)
    assert not test.alarms().any()
    assert test.estimate(0).before == pytest.approx(0.95, abs=0.04)
    np.testing.assert_allclose(test.steady.sum(1), 1.0)


def test_exploring_costs_success_and_is_no_drift():
    test, random = DriftDetector(modes=2), np.random.default_rng(4)
    test.add_robots(4)
    for count in range(1_000):
        exploring = random.random(4) < (0.0 if count < 500 else 0.5)
        test.observe(
            Round(
                rows=np.arange(4),
                modes=exploring.astype(np.int64),
                releases=np.ones(4, np.int64),
                offsets=np.zeros(4),
                succeeded=random.random(4) < np.where(exploring, 0.6, 0.92),
            )
        )
    assert not test.alarms().any()


def test_a_prediction_of_certainty_is_not_taken_at_its_word():
    offsets = log_odds_of(np.array([0.0, 0.5, 1.0]))
    assert offsets == pytest.approx([-3.89, 0.0, 3.89], abs=0.01)


def test_what_a_robot_says_of_its_release_hides_no_later_one():
    test = make_test(12)
    attempt(test, [0.85] * 12, 500)
    random = np.random.default_rng(5)
    for count in range(900):
        release, success = (2, 0.85) if count < 300 else (3, 0.6)
        claimed = [2**53, *[release] * 11]
        observe(test, random.random(12) < success, release=claimed, newest=release)
        assert test.level.release == release
    assert not test.alarms().any()


def test_releases_may_be_counted_from_the_beginning_again():
    test = make_test(3)
    observe(test, [True] * 3, release=40, newest=40)
    observe(test, [True] * 3, release=40, newest=1)
    assert (test.level.release, test.release.tolist()) == (1, [1, 1, 1])


def test_outcomes_that_run_together_tell_less_than_independent_ones():
    test, random = make_test(20), np.random.default_rng(6)
    hard = np.zeros(20, np.bool_)
    for _ in range(1_000):
        hard = np.where(hard, random.random(20) > 0.2, random.random(20) < 0.02)
        hard[:10] = False
        observe(test, random.random(20) < np.where(hard, 0.3, 0.87))
    worth = test.streaks.tempering(np.arange(20))
    assert worth[10:].mean() < worth[:10].mean() < 1.0
    assert not test.alarms().any()
