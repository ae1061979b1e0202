"""What recorded readings tell of an arm's joints, and what they do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from protocol.errors import ConfigurationError
from robot_agent.calibrating.joint_ranges import MARGIN_RAD, RecordedRanges, joint_scales
from robot_agent.kinematics.arm_model import ArmModel, Joint

JOINTS = ArmModel.load("so101").joints
LOWER = np.array([joint.lower_rad for joint in JOINTS])
UPPER = np.array([joint.upper_rad for joint in JOINTS])
ZERO = np.array([0.3, -0.2, 0.1, 0.05, -0.4])


def recorded(**changes: Any) -> RecordedRanges:
    """An arm whose motors read ZERO at the joints' zeros, posed a few degrees off."""
    facts = {
        "posed_rad": ZERO + 0.07,
        "lowest_rad": ZERO + LOWER,
        "highest_rad": ZERO + UPPER,
        "wrapped": np.zeros(5, np.bool_),
    }
    return RecordedRanges(**{**facts, **changes})


def test_the_stops_tell_the_zero_more_exactly_than_the_pose():
    scales = joint_scales(JOINTS, recorded())
    assert [scale.zero_rad for scale in scales] == pytest.approx(ZERO.tolist())
    assert [scale.lower_rad for scale in scales] == pytest.approx((LOWER + MARGIN_RAD).tolist())
    assert [scale.upper_rad for scale in scales] == pytest.approx((UPPER - MARGIN_RAD).tolist())


def test_a_motor_that_counts_the_other_way_has_the_same_zero():
    backwards = recorded(lowest_rad=ZERO - UPPER, highest_rad=ZERO - LOWER)
    scales = joint_scales(JOINTS, backwards, reverse=[joint.name for joint in JOINTS])
    assert [scale.zero_rad for scale in scales] == pytest.approx(ZERO.tolist())
    assert {scale.direction for scale in scales} == {-1}


def test_a_range_a_little_narrower_than_the_models_narrows_the_limits():
    scales = joint_scales(JOINTS, recorded(highest_rad=ZERO + UPPER - 0.2))
    # Which of the two stops differs is not known: the middle is the best guess.
    for scale, joint in zip(scales, JOINTS, strict=True):
        span_rad = joint.upper_rad - joint.lower_rad
        assert scale.upper_rad - scale.lower_rad == pytest.approx(span_rad - 0.2 - 2 * MARGIN_RAD)


def test_a_joint_that_was_not_moved_to_both_ends_is_named():
    halfway = ZERO + np.where(np.arange(5) == 2, 0.4, UPPER)
    with pytest.raises(
        ConfigurationError, match=r"joint elbow_flex: moved through 2.09 of 3.38 rad"
    ):
        joint_scales(JOINTS, recorded(highest_rad=halfway))


ROLL = np.arange(5) == 4
TURNED = {
    "over the end of its scale": {"wrapped": ROLL},
    "beyond its model": {
        "lowest_rad": np.where(ROLL, -math.pi, ZERO + LOWER),
        "highest_rad": np.where(ROLL, math.pi, ZERO + UPPER),
    },
}


@pytest.mark.parametrize("how", TURNED)
def test_a_joint_that_turned_further_than_its_model_is_refused_until_it_is_called_endless(how: str):
    with pytest.raises(ConfigurationError, match=r"joint wrist_roll: .* add --endless wrist_roll"):
        joint_scales(JOINTS, recorded(**TURNED[how]))


@pytest.mark.parametrize("how", TURNED)
def test_a_joint_that_is_called_endless_keeps_the_zero_it_was_given_by_hand(how: str):
    scales = joint_scales(JOINTS, recorded(**TURNED[how]), endless=["wrist_roll"])
    joint: Joint = JOINTS[4]
    assert scales[4].zero_rad == pytest.approx(ZERO[4] + 0.07)
    assert scales[4].lower_rad == pytest.approx(joint.lower_rad + MARGIN_RAD)
    assert scales[4].upper_rad == pytest.approx(joint.upper_rad - MARGIN_RAD)
    assert scales[3].zero_rad == pytest.approx(ZERO[3])
