"""A jaw is given the time that its speed needs, and no more."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from protocol.errors import RobotError
from robot_agent.config import SafetyConfig
from tests.robot_agent.arms.arm_on_shafts import ArmOnShafts, arm_on_shafts


@pytest.mark.parametrize("speed_rad_s", [0.02, 0.1, 0.25, 2.0])
def test_a_slow_jaw_closes_on_nothing_as_far_as_a_quick_one(speed_rad_s: float, tmp_path: Path):
    rig = arm_on_shafts(tmp_path, safety=SafetyConfig(max_joint_speed_rad_s=speed_rad_s))
    jaw = rig.arm.gripper_motor
    assert jaw.open_fully() == pytest.approx(0.08, abs=0.002)
    assert jaw.close() == pytest.approx(0.0, abs=0.001)


def test_a_jaw_that_is_never_still_is_an_error_that_says_how_long_it_took(tmp_path: Path):
    rig = arm_on_shafts(tmp_path)
    jaw = rig.arm.gripper_motor
    jaw.open_fully()
    _push_to_and_fro(rig)
    with pytest.raises(RobotError, match=r"robot-7: the gripper is still moving after \d\.\d s"):
        jaw.close()


def _push_to_and_fro(rig: ArmOnShafts) -> None:
    """For the next half a minute, have the jaw blocked now here, now there."""
    lower, upper = rig.mechanics.blocks[6]
    places = [(lower, upper), (upper - 0.01, upper)] * 150
    for number, (before, after) in enumerate(pairwise(places)):
        del before
        rig.clock.in_s(0.1 * number, lambda to=after: rig.mechanics.blocks.update({6: to}))
