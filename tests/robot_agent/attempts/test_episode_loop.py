"""Attempts on the simulated robot: what is recorded, and what happens when something fails."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protocol.codec import decode_episode, encode_episode
from protocol.episode import (
    Episode,
    GraspOutcome,
    GripperPose,
    ImageArray,
    Label,
    Mode,
    PolicyIdentity,
    ReferenceOutcome,
    StepKind,
)
from protocol.errors import CameraError, ConfigurationError, RobotError, SafetyFault
from protocol.release import RANDOM_POLICY_DIGEST
from protocol.release_manifest import SearchSettings
from robot_agent.attempts.episode_loop import DROP_HEIGHT_M, EpisodeLoop
from robot_agent.attempts.grasp_outcome import aborted
from robot_agent.cameras.base import Camera, Frame
from robot_agent.drivers import open_camera
from robot_agent.policy.q_function import QFunction
from robot_agent.robots.simulated.gantry import PARK_POSITION
from robot_agent.safety.workspace import WRIST_LIMIT_RAD
from tests.robot_agent.hill_release import hill_q_function
from tests.robot_agent.simulated_agent import WORKSPACE, Site, make_config, make_site

RANDOM = PolicyIdentity(release_version=0, digest=RANDOM_POLICY_DIGEST)
ROUNDING_M = 1e-5
SCORED = SearchSettings().samples + 1
"""Candidates of a first iteration: staying is one of them."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path, {"seed": 1})


def attempt(
    site: Site, mode: Mode = Mode.RANDOM, q_function: QFunction | None = None, max_moves: int = 4
) -> Episode:
    policy = q_function.policy if q_function else RANDOM
    return site.loop.run_attempt(mode, q_function, max_moves=max_moves, policy=policy)


def hand_is_parked(site: Site) -> bool:
    here = site.robot.state().pose
    return bool(np.allclose([here.x_m, here.y_m, here.z_m], PARK_POSITION[:3], atol=0.005))


def commanded_poses(episode: Episode) -> list[GripperPose]:
    return [step.observation.pose.moved_by(step.commanded) for step in episode.steps]


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    """Return attempts of every mode on one robot."""
    site = make_site(tmp_path_factory.mktemp("robot"), {"seed": 2})
    q_function = hill_q_function((0.3, 0.3, -0.1), calibration=site.truth)  # outside the workspace
    made = [attempt(site) for _ in range(60)]
    made += [attempt(site, mode, q_function) for mode in (Mode.EXPLORE, Mode.GREEDY) * 5]
    return made


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


def test_the_picture_that_ends_an_attempt_begins_the_next_unless_the_bin_changed(site: Site):
    made = [attempt(site) for _ in range(11)]
    same = [
        np.array_equal(before.last_image, after.first_image) for before, after in pairwise(made)
    ]
    assert same[-1] is False  # the bin is refilled after ten attempts
    assert sum(same) >= 8
    assert hand_is_parked(site)


@pytest.mark.parametrize("motion", [1, 2, 3])
def test_a_robot_that_fails_aborts_the_attempt_and_makes_the_next(site: Site, motion: int):
    site.robot.fail_at(motion)
    failed = attempt(site)
    assert failed.outcome.label == Label.ABORTED
    assert failed.outcome.abort_reason == "servo 3 does not answer"
    assert failed.outcome.opening_after_lift_m == 0.0
    assert hand_is_parked(site)
    assert decode_episode(encode_episode(failed)).outcome == failed.outcome

    assert attempt(site).outcome.label != Label.ABORTED


def test_a_pose_that_is_not_a_number_aborts_the_attempt(site: Site):
    site.robot.fail_at(2, "nan-pose")
    failed = attempt(site)
    assert failed.outcome.label == Label.ABORTED
    assert "not finite" in failed.outcome.abort_reason
    encode_episode(failed)
    assert attempt(site).outcome.label != Label.ABORTED


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("nan-above-8-cm", f"{SCORED} of {SCORED} predicted successes are NaN"),
        ("error-above-8-cm", "cannot be"),
    ],
)
def test_a_network_that_goes_wrong_aborts_the_attempt(site: Site, spoil: str, reason: str):
    failed = attempt(site, Mode.GREEDY, hill_q_function(calibration=site.truth, spoil=spoil))
    assert failed.outcome.label == Label.ABORTED
    assert reason in failed.outcome.abort_reason
    assert hand_is_parked(site)
    assert attempt(site).outcome.label != Label.ABORTED


def test_a_safety_fault_is_nobodys_but_a_persons_to_clear(site: Site):
    site.robot.fail_at(2, "safety-fault")
    stopped = attempt(site)
    assert stopped.outcome.label == Label.ABORTED
    assert stopped.outcome.abort_reason == "emergency stop pressed"
    assert isinstance(site.loop.abort_error, SafetyFault)
    assert site.robot.stops == 1
    assert not hand_is_parked(site)


def test_a_safety_fault_before_the_attempt_begins_stops_the_robot_too(site: Site):
    site.robot.retreat_error = SafetyFault("light curtain broken")
    with pytest.raises(SafetyFault, match="light curtain"):
        attempt(site)
    assert site.robot.stops == 1


def test_a_safety_fault_while_the_hand_leaves_after_an_abort_stops_the_robot_again(site: Site):
    attempt(site)
    site.robot.fail_at(2)
    site.robot.retreat_error = SafetyFault("light curtain broken")
    stopped = attempt(site)
    assert stopped.outcome.abort_reason == "servo 3 does not answer"
    assert isinstance(site.loop.abort_error, SafetyFault)
    assert site.robot.stops == 2


def test_a_hand_that_could_not_leave_is_out_of_the_next_picture_of_the_bin(site: Site):
    empty = site.camera.capture().image
    site.robot.fail_at(2, "stuck")
    failed = attempt(site)
    assert failed.outcome.abort_reason == "servo 3 does not answer"
    assert isinstance(site.loop.abort_error, RobotError)
    assert not hand_is_parked(site)

    first = attempt(site).first_image

    assert changed_pixels(empty, first) < 0.002


def test_what_was_held_out_of_view_is_let_go_above_the_bin_after_an_abort(site: Site):
    attempt(site)
    sent: list[GripperPose] = []
    go = site.robot.move_to
    site.robot.move_to = lambda pose: sent.append(pose) or go(pose)
    site.robot.retreat_error = RobotError("the arm is blocked")
    failed = attempt(site)
    assert failed.outcome.label == Label.ABORTED
    assert failed.steps[-1].kind == StepKind.CLOSE
    assert sent[-1].z_m == DROP_HEIGHT_M
    assert hand_is_parked(site)
    assert site.robot.state().opening_m > 0.07


def changed_pixels(one: ImageArray, other: ImageArray) -> float:
    difference = np.abs(one.astype(np.int16) - other.astype(np.int16)).max(axis=2)
    return float((difference > 25).mean())


class HalfCamera:
    """A camera that gives pictures of half the height from the ``after``-th on."""

    def __init__(self, site: Site, after: int) -> None:
        self._camera = site.camera
        self._left = after

    def capture(self) -> Frame:
        frame = self._camera.capture()
        self._left -= 1
        if self._left > 0:
            return frame
        return Frame(image=frame.image[::2], captured_at_ns=frame.captured_at_ns)

    def close(self) -> None:
        self._camera.close()


class RepeatingCamera:
    """A camera whose driver hands out its ``after``-th picture again and again."""

    def __init__(self, site: Site, after: int) -> None:
        self._camera = site.camera
        self._left = after
        self._last: Frame | None = None

    def capture(self) -> Frame:
        if self._last is None or self._left > 0:
            self._left -= 1
            self._last = self._camera.capture()
        return self._last

    def close(self) -> None:
        self._camera.close()


def test_a_picture_that_was_seen_before_aborts_the_attempt(site: Site):
    loop = loop_with(site, RepeatingCamera(site, after=2))
    episode = loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)
    assert "stale picture" in episode.outcome.abort_reason
    assert len(episode.steps) == 1
    with pytest.raises(CameraError, match="stale picture"):
        loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)


def loop_with(site: Site, camera: Camera) -> EpisodeLoop:
    return EpisodeLoop(
        config=site.config,
        robot=site.robot,
        camera=camera,
        calibration=site.truth,
        rng=np.random.default_rng(0),
    )


def test_pictures_of_another_size_are_named_with_both_sizes(site: Site):
    loop = loop_with(site, HalfCamera(site, after=1))
    with pytest.raises(CameraError, match=r"uint8\[32, 64, 3\].*asks for uint8\[64, 64, 3\]"):
        loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)


def test_a_camera_that_changes_its_size_on_the_way_aborts_the_attempt(site: Site):
    loop = loop_with(site, HalfCamera(site, after=2))
    episode = loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)
    assert episode.outcome.label == Label.ABORTED
    assert "camera gave uint8[32, 64, 3]" in episode.outcome.abort_reason
    assert hand_is_parked(site)


def test_a_release_for_another_picture_size_aborts_and_says_what_to_set(tmp_path: Path):
    site = make_site(tmp_path, {"seed": 1}, side_px=48)
    episode = attempt(site, Mode.GREEDY, hill_q_function(calibration=site.truth))
    assert episode.outcome.label == Label.ABORTED
    assert "set camera.width_px and camera.height_px" in episode.outcome.abort_reason


def test_a_camera_size_that_cannot_be_had_is_a_wrong_configuration(tmp_path: Path, site: Site):
    config = make_config(tmp_path, side_px=8)
    with pytest.raises(ConfigurationError, match="8x8 px; each side must be 16 to 512"):
        open_camera(config.camera, site.robot)
