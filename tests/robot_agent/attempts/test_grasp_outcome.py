"""How an attempt ended: its label against the simulator's own truth, and its two tests."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from protocol.episode import Episode, GraspOutcome, Label, ReferenceOutcome
from robot_agent.attempts.grasp_outcome import aborted
from tests.robot_agent.attempts.made_attempts import attempt, attempts_of_every_mode
from tests.robot_agent.simulated_agent import Site


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    return attempts_of_every_mode(tmp_path_factory.mktemp("robot"))


def test_labels_agree_with_the_simulators_own_truth(episodes: list[Episode]):
    outcomes = [episode.outcome for episode in episodes]
    assert Counter(outcome.label for outcome in outcomes)[Label.SUCCESS] >= 3
    for outcome in outcomes:
        assert outcome.reference is not None
        if outcome.label == Label.SUCCESS:
            assert outcome.reference.success
            assert outcome.opening_after_lift_m > 0.004
        assert outcome.opening_says_held == (outcome.label == Label.SUCCESS)


def test_the_drop_test_is_recorded_and_mostly_agrees(episodes: list[Episode]):
    outcomes = [episode.outcome for episode in episodes]
    assert all(0.0 <= outcome.drop_test_score <= 1.0 for outcome in outcomes)
    disagreements = [outcome for outcome in outcomes if outcome.tests_disagree]
    assert len(disagreements) <= 0.1 * len(outcomes)
    held = [outcome.drop_test_score for outcome in outcomes if outcome.opening_says_held]
    empty = [outcome.drop_test_score for outcome in outcomes if not outcome.opening_says_held]
    assert np.median(held) > 5 * np.median(empty) + 0.004


def test_what_slips_out_right_after_the_opening_was_read_is_not_a_success(site: Site):
    look = site.robot.reference_outcome

    def look_and_let_slip() -> ReferenceOutcome:
        outcome = look()
        site.robot.open_gripper()
        site.robot.close_gripper()
        return outcome

    site.robot.reference_outcome = look_and_let_slip
    outcomes = (attempt(site).outcome for _ in range(40))

    slipped = next(outcome for outcome in outcomes if outcome.reference.success)
    assert slipped.label == Label.FAILURE
    assert slipped.opening_after_lift_m < 0.004


@pytest.mark.parametrize(
    ("opening", "drop", "disagree"),
    [(True, True, False), (False, False, False), (True, False, True), (False, True, True)],
)
def test_two_tests_that_contradict_each_other_disagree(opening: bool, drop: bool, disagree: bool):
    outcome = GraspOutcome(
        label=Label.SUCCESS if opening else Label.FAILURE,
        opening_after_close_m=0.01,
        opening_after_lift_m=0.01,
        opening_says_held=opening,
        drop_test_says_held=drop,
        drop_test_score=0.01,
    )
    assert outcome.tests_disagree == disagree
    assert not aborted("why").tests_disagree
