"""Arms of which a servo was changed, or homed anew, since they were calibrated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError
from tests.robot_agent.robots.emulated_arms import (
    EmulatedArm,
    calibration_of,
    emulated_dynamixel,
    emulated_so101,
)

ABOVE_BIN = GripperPose(x_m=0.02, y_m=-0.03, z_m=0.12, yaw_rad=0.6)
Emulated = Callable[[Path], AbstractContextManager[EmulatedArm]]


@pytest.fixture(params=[emulated_so101, emulated_dynamixel], ids=["so101", "dynamixel"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmulatedArm]:
    emulated: Emulated = request.param
    with emulated(tmp_path) as rig:
        yield rig


def test_an_arm_whose_servo_counts_from_elsewhere_is_not_opened_and_the_joint_is_named(
    rig: EmulatedArm,
):
    rig.line.servos[4].home(512)
    joint = {"so101": "joint wrist_flex", "wx200": "joint elbow"}[rig.arm]
    with pytest.raises(ConfigurationError) as refused:
        rig.open()
    said = str(refused.value)
    assert said.startswith(f"robot-7: {joint}: its servo 4 is not the one that was calibrated")
    assert "(homing offset 512 instead of 0)" in said
    assert "run `robot-agent calibrate`" in said
    assert not any(rig.torques)


def test_an_arm_whose_grippers_servo_was_changed_is_not_opened(rig: EmulatedArm):
    rig.line.servos[max(rig.line.servos)].home(-77)
    with pytest.raises(ConfigurationError, match=r"robot-7: gripper: .* -77 instead of 0"):
        rig.open()


def test_a_motor_that_counts_the_other_way_than_when_it_was_calibrated_is_not_moved(
    tmp_path: Path,
):
    with emulated_dynamixel(tmp_path) as rig:
        rig.line.servos[2].memory[10] = 1
        with pytest.raises(ConfigurationError, match=r"servo 2 .*drive mode 1 instead of 0"):
            rig.open()


def test_a_guard_holds_an_arm_whatever_servos_it_has(rig: EmulatedArm):
    rig.line.servos[4].home(512)
    rig.clock.sleep(0.02)  # it measures anew
    rig.hold()
    assert rig.is_held()


def test_an_arm_calibrated_before_servos_were_asked_moves_with_a_warning(
    rig: EmulatedArm, caplog: pytest.LogCaptureFixture
):
    before = msgspec.structs.replace(calibration_of(rig.arm), servos=(), gripper_servo=None)
    before.write(rig.site.state_folder)
    with caplog.at_level(logging.WARNING):
        arm = rig.open()
    assert "robot-7: its calibration does not say which servos" in caplog.text
    arm.move_to(ABOVE_BIN)
    arm.close()
