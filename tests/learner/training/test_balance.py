"""How often which robot's examples are drawn, and what that does to the log-odds."""

from __future__ import annotations

import numpy as np
import pytest

from learner.training.balance import balanced


def test_robots_share_alike_within_an_outcome():
    found = balanced(np.array([[400, 100, 300], [20, 30, 20]]), most_repeats=4.0)
    np.testing.assert_allclose(found.share_OR, 1 / 3)


def test_the_few_attempts_of_a_new_robot_are_not_repeated_more_than_is_allowed():
    count_OR = np.array([[900, 96, 4], [10, 10, 0]])
    found = balanced(count_OR, most_repeats=4.0)
    np.testing.assert_allclose(found.share_OR[0], [0.6, 0.384, 0.016])
    repeats = found.share_OR[0] / (count_OR[0] / 1000)
    assert repeats.max() == pytest.approx(4.0)


@pytest.mark.parametrize("most_repeats", [1.0, 1.7, 4.0, 1e9])
def test_shares_are_whole_and_none_beyond_the_limit(most_repeats: float):
    rng = np.random.default_rng(0)
    for _ in range(50):
        count_OR = rng.integers(0, 1000, (2, rng.integers(1, 40)))
        found = balanced(count_OR, most_repeats)
        np.testing.assert_allclose(found.share_OR.sum(axis=1), count_OR.any(axis=1))
        limit_OR = most_repeats * count_OR / np.maximum(count_OR.sum(axis=1, keepdims=True), 1)
        assert (found.share_OR <= limit_OR + 1e-12).all()


def test_what_balancing_adds_to_the_log_odds_is_known_for_every_robot():
    # One robot succeeds at one attempt of ten, the other at one of two.
    found = balanced(np.array([[90, 50], [10, 50]]), most_repeats=1e9)
    np.testing.assert_allclose(found.added_logit_R, [np.log(9), 0.0], rtol=1e-6)


def test_a_robot_that_never_succeeded_is_taken_for_an_average_one():
    found = balanced(np.array([[60, 30], [0, 10]]), most_repeats=1.5)
    np.testing.assert_allclose(found.added_logit_R[0], np.log(9), rtol=1e-6)
    assert np.isfinite(balanced(np.array([[5], [0]]), most_repeats=4.0).added_logit_R).all()
