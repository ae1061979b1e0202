"""Attempts in which a robot or its network fails: aborted, recorded, and where the hand goes."""

from __future__ import annotations

import numpy as np
import pytest

from protocol.codec import decode_episode, encode_episode
from protocol.episode import GripperPose, ImageArray, Label, Mode, StepKind
from protocol.errors import RobotError, SafetyFault
from protocol.release_manifest import SearchSettings
from robot_agent.attempts.episode_loop import DROP_HEIGHT_M
from tests.robot_agent.attempts.made_attempts import attempt, hand_is_parked
from tests.robot_agent.hill_release import hill_q_function
from tests.robot_agent.simulated_agent import Site

SCORED = SearchSettings().samples + 1
"""Candidates of a first iteration: staying is one of them."""


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


def changed_pixels(one: ImageArray, other: ImageArray) -> float:
    difference = np.abs(one.astype(np.int16) - other.astype(np.int16)).max(axis=2)
    return float((difference > 25).mean())


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
