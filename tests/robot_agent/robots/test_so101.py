"""The SO-101 against emulated servos: what goes wrong on its cable, and what is asked of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError, SafetyFault
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.robots.base import (
    GuardedRobot,
    ReachLimitedRobot,
    SelfCheckingRobot,
    ThermometerRobot,
    TurningRobot,
)
from robot_agent.robots.check_result import Verdict
from robot_agent.robots.robotiq_2f85 import GO
from robot_agent.robots.so101 import SO101, WORKING_OPENING_M, SO101Options, gripper_model
from tests.emulators.pty_port import PtyPort
from tests.emulators.robotiq import CLOSED_AT, EmulatedRobotiq
from tests.robot_agent.robots.emulated_arms import EmulatedArm, calibration_of, emulated_so101

ABOVE_BIN = GripperPose(x_m=0.02, y_m=-0.03, z_m=0.12, yaw_rad=0.6)
LOW = replace(ABOVE_BIN, z_m=0.01)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[EmulatedArm]:
    with emulated_so101(tmp_path) as rig:
        yield rig


def apart_m(one: GripperPose, other: GripperPose) -> float:
    return float(np.linalg.norm(one.as_array()[:3] - other.as_array()[:3]))


def test_it_is_all_that_an_arm_can_be(rig: EmulatedArm):
    arm = rig.open()
    assert isinstance(arm, ReachLimitedRobot)
    assert isinstance(arm, ThermometerRobot)
    assert isinstance(arm, SelfCheckingRobot)
    assert isinstance(SO101, GuardedRobot)


def test_it_tells_whether_the_hand_took_a_pose_half_a_turn_further(rig: EmulatedArm):
    arm = rig.open()
    arm.move_to(ABOVE_BIN)
    before_rad = arm.hand_yaw_rad()
    asked = replace(ABOVE_BIN, yaw_rad=ABOVE_BIN.yaw_rad + math.pi)
    assert arm.move_to(asked).pose.yaw_rad == pytest.approx(asked.yaw_rad, abs=0.02)
    assert isinstance(arm, TurningRobot)
    assert math.cos(arm.hand_yaw_rad() - before_rad) > 0.99
    joints_rad = calibration_of("so101").joints_from_motors(np.array(rig.positions_rad[:5]))
    model = ArmModel.load("so101", mount=SO101Options(port="any").mount)
    assert math.cos(arm.hand_yaw_rad() - model.forward(joints_rad).yaw_rad) > 0.99


def test_half_a_turn_leaves_the_opened_jaws_about_the_same_point():
    moving, still = gripper_model(WORKING_OPENING_M).boxes(WORKING_OPENING_M)[-2:]
    assert moving[0, 1] == pytest.approx(WORKING_OPENING_M / 2)
    np.testing.assert_allclose(
        still, [[moving[0, 0], -moving[1, 1], 0], [moving[1, 0], -0.03, 0.065]]
    )


def test_one_jaw_stands_still_while_the_other_closes_on_it():
    model = gripper_model(WORKING_OPENING_M)
    still_open, still_closed = model.boxes(0.05)[-1], model.boxes(0.0)[-1]
    np.testing.assert_allclose(still_open, still_closed)
    assert model.boxes(0.0)[-2][0, 1] == pytest.approx(still_closed[1, 1])


def test_answers_that_are_lost_or_damaged_cost_tries_only(rig: EmulatedArm):
    arm = rig.open(reply_timeout_s=0.05)
    arm.retreat()
    for fault, delay_s in (("garbled", 0.2), ("noisy", 0.4), ("cut", 0.6), ("silent", 0.8)):
        rig.clock.in_s(delay_s, lambda fault=fault: setattr(rig.port.faults, fault, 1))
    assert apart_m(arm.move_to(LOW).pose, LOW) < 0.001


def test_a_servo_that_only_says_garbage_aborts_the_motion_and_holds_the_arm(rig: EmulatedArm):
    arm = rig.open(reply_timeout_s=0.05)
    arm.move_to(ABOVE_BIN)
    rig.clock.in_s(0.3, lambda: setattr(rig.port.faults, "garbled", 10_000))
    with pytest.raises(RobotError, match=r"robot-7: .*servo .* did not answer in 3 tries"):
        arm.move_to(LOW)
    rig.port.faults.garbled = 0
    arm.stop()
    assert rig.is_held()


def test_a_servo_that_is_missing_is_named_when_the_arm_is_opened(rig: EmulatedArm):
    rig.line.servos[4].is_missing = True
    with pytest.raises(RobotError, match=r"robot-7: .*servo 4 did not answer"):
        rig.open(reply_timeout_s=0.05)
    rig.line.servos[4].is_missing = False
    rig.open().close()


def test_an_overheated_servo_is_a_safety_fault_and_the_arm_holds(rig: EmulatedArm):
    arm = rig.open()
    arm.move_to(ABOVE_BIN)
    rig.clock.in_s(0.3, lambda: setattr(rig.line.servos[2], "temperature_c", 65.0))
    with pytest.raises(SafetyFault, match="motor shoulder_lift is at 65 degrees C, more than 60"):
        arm.move_to(LOW)
    arm.stop()
    assert rig.is_held()
    arm.close()
    assert rig.is_held()


def test_an_overloaded_servo_aborts_the_attempt_and_the_third_time_stops_the_robot(
    rig: EmulatedArm,
):
    arm = rig.open()
    arm.move_to(ABOVE_BIN)
    for _ in range(2):
        overload_while_it_rests(rig, arm)
        with pytest.raises(RobotError, match="robot-7: motor elbow_flex reports: overl") as caught:
            arm.move_to(LOW)
        assert not isinstance(caught.value, SafetyFault)
    overload_while_it_rests(rig, arm)
    with pytest.raises(SafetyFault, match="3 times in succession"):
        arm.move_to(LOW)


def overload_while_it_rests(rig: EmulatedArm, arm: SO101) -> None:
    # An answer: the goal that was sent last has arrived, and does not end the protection.
    arm.temperature_c()
    rig.line.servos[3].overload()


def test_a_brown_out_ends_in_an_arm_that_holds_again(rig: EmulatedArm):
    arm = rig.open()
    arm.move_to(ABOVE_BIN)
    rig.clock.in_s(0.3, rig.line.brown_out)
    with pytest.raises(RobotError, match=r"robot-7: the supply fell to 4.5 V"):
        arm.move_to(LOW)
    rig.clock.sleep(0.3)
    assert set(rig.torques) == {0.0}
    with pytest.raises(SafetyFault, match="switched itself off"):
        arm.move_to(LOW)
    arm.stop()
    assert rig.is_held()


def test_a_cable_that_is_out_in_the_middle_of_a_grasp_keeps_what_is_gripped(rig: EmulatedArm):
    arm = rig.open()
    rig.mechanics.blocks[6] = (0.5, 1.8)
    arm.move_to(LOW)
    arm.close_gripper()
    rig.clock.in_s(0.2, rig.port.unplug)
    with pytest.raises(RobotError, match="port is gone"):
        arm.move_to(ABOVE_BIN)
    rig.clock.sleep(1.0)
    assert rig.mechanics.shafts[6].load == pytest.approx(-0.5, abs=0.01)
    rig.port.plug()
    again(arm.stop)
    assert arm.retreat().opening_m == pytest.approx(0.032, abs=0.001)


def again(call: Callable[[], object]) -> None:
    """Call it until the port is looked for again."""
    end_s = time.monotonic() + 10
    while True:
        try:
            call()
        except RobotError:
            assert time.monotonic() < end_s, "the port is not found again"
            time.sleep(0.05)
        else:
            return


def test_a_check_names_the_servo_that_is_warm(rig: EmulatedArm):
    arm = rig.open()
    rig.line.servos[5].temperature_c = 58.0
    rig.line.step(0.0)
    found = {one.subject: one for one in arm.checks()}
    assert found["servo wrist_roll"].verdict == Verdict.WARN
    assert found["servo wrist_flex"].verdict == Verdict.OK


def test_a_guard_holds_what_the_jaw_grips(rig: EmulatedArm):
    arm = rig.open()
    rig.mechanics.blocks[6] = (0.5, 1.8)
    arm.close_gripper()
    arm.servos.close()
    rig.hold()
    rig.clock.sleep(0.5)
    assert rig.mechanics.shafts[6].load == pytest.approx(-0.5, abs=0.01)
    assert rig.is_held()


def test_a_guard_stops_the_fingers_of_a_gripper_of_its_own_port(tmp_path: Path):
    def beat() -> None:
        if device.hurry == 1.0 and device.position > 20:
            raise SystemExit

    device = EmulatedRobotiq()
    with PtyPort(device, tmp_path / "gripper") as port:
        gripper = {
            "driver": "robot_agent.robots.robotiq_2f85:Robotiq2F85",
            "port": str(port.path),
        }
        with emulated_so101(tmp_path, gripper=gripper) as rig:
            rig.site = replace(rig.site, beat=beat)
            arm = rig.open()
            arm.open_gripper()
            device.hurry = 1.0
            with pytest.raises(SystemExit):
                arm.close_gripper()
            arm.servos.close()
            arm.gripper_motor.disconnect()
            rig.hold()
            assert rig.is_held()
    assert not device.outputs[0] & GO
    assert 20 < device.position < CLOSED_AT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"baud": 0}, "baud"),
        ({"mount": {"x_metres": 1.0}}, "mount.x_metres"),
        ({"parking": {"x_m": 0.1}}, "parking"),
        ({"parking": {"x_m": 0.9, "y_m": 0.0, "z_m": 0.2}}, "out of the arm's reach"),
        ({"min_voltage_v": 9.0}, "min_voltage_v 9.0 is not below max_voltage_v 8.4"),
        ({"max_opening": 0.05}, "did you mean 'max_opening_m'"),
        ({"clearance_m": -0.1}, "clearance_m"),
        ({"clearance_m": 12.0}, "clearance_m"),
        ({"mount": {"y_m": math.nan}}, "mount.y_m is nan, which is not finite"),
        ({"mount": {"y_m": 185.0}}, "mount.y_m 185.0 is not between -3 and 3"),
        ({"parking": {"x_m": math.nan, "y_m": 0.2, "z_m": 0.2}}, "parking.x_m"),
        ({"reply_timeout_s": 20.0}, "reply_timeout_s"),
        ({"max_voltage_v": math.inf}, "max_voltage_v"),
        ({"max_opening_m": 60.0}, "max_opening_m"),
        ({"baud": 10}, "baud"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str, rig: EmulatedArm):
    with pytest.raises(ConfigurationError, match=f"robot-7.*{words}"):
        rig.open(**options)
    # The port was let go of.
    rig.open().close()


def test_without_a_port_it_says_so(rig: EmulatedArm):
    with pytest.raises(ConfigurationError, match="missing required field `port`"):
        SO101.open({}, rig.site)
    rig.port.unplug()
    with pytest.raises(RobotError, match=r"robot-7: .*there is no such port"):
        rig.open()


def test_another_servo_than_an_sts3215_is_refused(rig: EmulatedArm):
    rig.line.servos[3].memory[3:5] = (1026).to_bytes(2, "little")
    with pytest.raises(ConfigurationError, match="servo 3 is of model 1026"):
        rig.open()
