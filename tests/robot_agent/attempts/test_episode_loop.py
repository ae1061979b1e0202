"""Attempts on the simulated robot: what is sent to it, and what is recorded."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
import pytest

from protocol.codec import decode_episode, encode_episode
from protocol.episode import Episode, GripperPose, Mode, StepKind
from robot_agent.cameras.base import Frame
from robot_agent.safety.workspace import WRIST_LIMIT_RAD
from tests.robot_agent.attempts.made_attempts import (
    RANDOM,
    attempt,
    attempts_of_every_mode,
    hand_is_parked,
)
from tests.robot_agent.hill_release import hill_q_function
from tests.robot_agent.simulated_agent import WORKSPACE, Site

ROUNDING_M = 1e-5


def commanded_poses(episode: Episode) -> list[GripperPose]:
    return [step.observation.pose.moved_by(step.commanded) for step in episode.steps]


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    return attempts_of_every_mode(tmp_path_factory.mktemp("robot"))


def test_every_attempt_is_a_record_that_the_learner_accepts(episodes: list[Episode]):
    for episode in episodes:
        read = decode_episode(encode_episode(episode))
        assert (read.episode_id, read.mode, read.outcome, len(read.steps)) == (
            episode.episode_id,
            episode.mode,
            episode.outcome,
            len(episode.steps),
        )
    assert len({episode.episode_id for episode in episodes}) == len(episodes)


def test_every_command_is_inside_the_workspace_whatever_was_wished(episodes: list[Episode]):
    for episode in episodes:
        for pose in commanded_poses(episode):
            for value, (low, high) in zip(
                (pose.x_m, pose.y_m, pose.z_m),
                (WORKSPACE.x_m, WORKSPACE.y_m, WORKSPACE.z_m),
                strict=True,
            ):
                assert low - ROUNDING_M <= value <= high + ROUNDING_M


def test_moves_reach_what_was_commanded_unless_something_is_in_the_way(episodes: list[Episode]):
    above, among_objects = [], []
    for episode in episodes:
        for step, pose in zip(episode.steps, commanded_poses(episode), strict=True):
            if step.kind == StepKind.MOVE:
                missed = step.commanded.as_array()[:3] - step.reached.as_array()[:3]
                (above if pose.z_m > 0.07 else among_objects).append(np.linalg.norm(missed))
    assert np.median(above) < 0.002
    assert max(among_objects) > 0.003  # a blocked descent: commanded and reached are kept apart


def test_each_step_begins_where_the_one_before_it_ended(episodes: list[Episode]):
    for episode in episodes:
        for before, after in pairwise(episode.steps):
            ended = before.observation.pose.moved_by(before.reached).as_array()
            here = after.observation.pose.as_array()
            np.testing.assert_allclose(here[:3], ended[:3], atol=2e-4)
            assert abs(math.sin(here[3] - ended[3])) < 2e-3


def test_the_last_step_closes_at_the_last_command(episodes: list[Episode]):
    for episode in episodes:
        *moves, last = episode.steps
        assert last.kind == StepKind.CLOSE
        assert {step.kind for step in moves} <= {StepKind.MOVE, StepKind.LIFT}
        assert last.reached.as_array() == pytest.approx([0, 0, 0, 0, 1], abs=1e-7)
        final, sent = episode.final_pose, commanded_poses(episode)[-2]
        np.testing.assert_allclose(final.as_array()[:3], sent.as_array()[:3], atol=1e-5)
        assert abs(math.sin(final.yaw_rad - sent.yaw_rad)) < 1e-3


def test_the_wrist_stays_within_its_limit(episodes: list[Episode]):
    for episode in episodes:
        for step in episode.steps:
            assert abs(step.observation.pose.yaw_rad) <= WRIST_LIMIT_RAD + 0.03


def test_only_a_network_leaves_predictions(episodes: list[Episode]):
    for episode in episodes:
        for step in episode.steps:
            decided = episode.mode != Mode.RANDOM
            assert (step.predicted_best is not None) == decided
            assert (step.predicted_stay is not None) == decided
            assert (step.decision_ms > 0) == decided


def test_an_attempt_names_the_policy_and_the_map_that_made_it(site: Site):
    q_function = hill_q_function(calibration=site.truth)
    by_network = attempt(site, Mode.GREEDY, q_function)
    at_random = attempt(site, Mode.GREEDY, None)
    assert by_network.policy == q_function.policy
    assert (by_network.mode, at_random.mode) == (Mode.GREEDY, Mode.RANDOM)
    assert at_random.policy == RANDOM
    for episode in (by_network, at_random):
        np.testing.assert_array_equal(episode.hand_eye_map, site.truth.matrix)
        np.testing.assert_array_equal(episode.calibration, site.truth.matrix)


def test_the_first_picture_is_taken_after_the_attempt_began(site: Site):
    exposed_ns: list[int] = []
    capture = site.camera.capture

    def noted() -> Frame:
        frame = capture()
        exposed_ns.append(frame.exposed_ns)
        return frame

    site.camera.capture = noted
    attempt(site)
    for _ in range(2):
        exposed_ns.clear()
        before_ns = time.monotonic_ns()
        made = attempt(site)
        # One for the bin, one for each step, and two for the drop test.
        assert len(exposed_ns) == 1 + len(made.steps) + 2
        assert exposed_ns[0] >= before_ns
    assert hand_is_parked(site)
