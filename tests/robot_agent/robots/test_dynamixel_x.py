"""The Dynamixel X arm against emulated motors: what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError, SafetyFault
from robot_agent.robots.base import (
    GuardedRobot,
    ReachLimitedRobot,
    SelfCheckingRobot,
    ThermometerRobot,
)
from robot_agent.robots.dynamixel_x import DynamixelX
from tests.robot_agent.robots.emulated_arms import EmulatedArm, emulated_dynamixel

ABOVE_BIN = GripperPose(x_m=0.02, y_m=-0.03, z_m=0.12, yaw_rad=0.6)
LOW = GripperPose(x_m=0.02, y_m=-0.03, z_m=0.01, yaw_rad=0.6)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[EmulatedArm]:
    with emulated_dynamixel(tmp_path) as rig:
        yield rig


def test_it_is_all_that_an_arm_can_be(rig: EmulatedArm):
    arm = rig.open()
    assert isinstance(arm, ReachLimitedRobot)
    assert isinstance(arm, ThermometerRobot)
    assert isinstance(arm, SelfCheckingRobot)
    assert isinstance(DynamixelX, GuardedRobot)


def test_the_fingers_of_the_crank_open_to_their_data_sheet(rig: EmulatedArm):
    arm = rig.open()
    assert arm.open_gripper() == pytest.approx(0.044, abs=0.0005)
    rig.mechanics.blocks[7] = (0.7, 1.8)
    held_m = arm.close_gripper()
    assert 0.012 < held_m < 0.024
    assert arm.state().opening_m == pytest.approx(held_m, abs=1e-4)


def test_a_motor_that_switches_itself_off_is_a_safety_fault(rig: EmulatedArm):
    arm = rig.open()
    arm.move_to(ABOVE_BIN)
    rig.clock.in_s(0.3, rig.line.servos[2].overload)
    with pytest.raises(SafetyFault, match=r"robot-7: .*servo 2 \(overload\) switched itself off"):
        arm.move_to(LOW)
    with pytest.raises(SafetyFault, match="does not move since a fault"):
        arm.retreat()


def test_a_sinking_supply_aborts_the_attempt(rig: EmulatedArm):
    arm = rig.open()
    arm.move_to(ABOVE_BIN)
    rig.clock.in_s(0.3, lambda: setattr(rig.line, "supply_v", 9.0))
    with pytest.raises(RobotError, match=r"fell to 9.0 V, the motors need 10.0"):
        arm.move_to(LOW)


def test_a_motor_of_another_series_is_refused(rig: EmulatedArm):
    rig.line.servos[4].memory[0:2] = (12).to_bytes(2, "little")
    with pytest.raises(ConfigurationError, match=r"robot-7: .*servo 4 is of model 12"):
        rig.open()


def test_an_unknown_option_names_the_nearest(rig: EmulatedArm):
    with pytest.raises(ConfigurationError, match="did you mean 'max_opening_m'"):
        rig.open(max_opening=0.05)
