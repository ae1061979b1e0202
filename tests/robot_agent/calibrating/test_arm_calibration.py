"""An SO-101 on an emulated line, moved by a person, finds its joints and its gripper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError
from robot_agent import kinematics
from robot_agent.arms.joint_calibration import FILE, JointCalibration
from robot_agent.calibrating.arm_calibration import calibrate_gripper, calibrate_joints
from robot_agent.calibrating.guide import Guide
from robot_agent.kinematics.arm_model import ArmModel
from tests.emulators.servo_mechanics import Shaft
from tests.robot_agent.robots.emulated_arms import (
    IDS,
    EmulatedArm,
    calibration_of,
    emulated_dynamixel,
    emulated_so101,
)

MODEL = ArmModel.load("so101")
SO101_URDF = Path(kinematics.__file__).parent / "models" / "so101.urdf"
MOUNTED_RAD = np.array([2.9, -1.0, 0.4, -2.5, 1.2])
"""How the motors' shafts happened to stand when their horns were screwed on."""
POSED_RAD = np.array([0.08, -0.06, 0.05, -0.09, 0.04])
"""How far from zero a person's pose is."""
JAW_ID, JAW_RAD = 6, (1.7, 3.4)
HELD_STILL_S, SWEEP_S = 0.1, 4.0
"""Meanwhile the motors get new zeros; then a person moves the joints."""
ABOVE_BIN = GripperPose(x_m=0.02, y_m=-0.03, z_m=0.12, yaw_rad=0.6)


@pytest.fixture
def so101(tmp_path: Path) -> Iterator[EmulatedArm]:
    with emulated_so101(tmp_path) as arm:
        (tmp_path / FILE).unlink()
        put(arm, POSED_RAD)
        arm.mechanics.shafts[JAW_ID] = Shaft(position_rad=2.5)
        arm.mechanics.blocks[JAW_ID] = JAW_RAD
        yield arm


def put(arm: EmulatedArm, joints_rad: np.ndarray) -> None:
    for index, position_rad in enumerate(MOUNTED_RAD + joints_rad):
        arm.mechanics.shafts[index + 1].position_rad = float(position_rad)


def move_through_ranges(arm: EmulatedArm, share: float = 1.0, model: ArmModel = MODEL) -> None:
    """Let a person move one joint after the other to ``share`` of its way to both ends."""
    steps = 40
    for joint in range(5):
        for step in range(steps):
            swing = np.sin(2 * np.pi * (step + 1) / steps) * share
            there = POSED_RAD.copy()
            there[joint] = (model.upper_rad if swing > 0 else -model.lower_rad)[joint] * swing
            delay_s = HELD_STILL_S + SWEEP_S / 5 * (joint + step / steps)
            arm.clock.in_s(delay_s, lambda there=there: put(arm, there))


def guide(arm: EmulatedArm) -> Guide:
    return Guide(SWEEP_S + 0.2, arm.clock)


def offsets(arm: EmulatedArm) -> list[int]:
    """Return what each motor shifts its readings by, as its memory has it."""
    memories = [arm.line.servos[one].memory for one in IDS[arm.arm]]
    raw = [int.from_bytes(memory[31:33], "little") for memory in memories]
    return [(one & 0x7FF) * (-1 if one & 0x800 else 1) for one in raw]


def test_joints_are_found_by_a_person_who_moves_them_and_the_arm_then_knows_where_it_is(
    so101: EmulatedArm, tmp_path: Path
):
    with_torque = []
    so101.clock.in_s(SWEEP_S / 2, lambda: with_torque.append(any(so101.torques)))
    robot = so101.open()
    move_through_ranges(so101)
    found = calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    assert with_torque == [False]
    assert all(so101.torques[:5])
    assert JointCalibration.read(tmp_path) == found
    assert [one.homing_offset for one in found.servos] == offsets(so101)[:5]
    assert all(one.homing_offset for one in found.servos)
    robot.close()

    joints_rad = np.array([0.3, -0.4, 0.5, 0.6, -0.7])
    put(so101, joints_rad)
    so101.line.step(0.01)
    motors_rad = so101.open().servos.read().positions_rad
    off_rad = np.abs(found.joints_from_motors(motors_rad) - joints_rad)
    print(f"joints are {np.rad2deg(off_rad).max():.2f} degrees off at most")
    assert off_rad.max() < 0.01


def test_a_joint_that_was_forgotten_is_named_nothing_is_kept_and_the_arm_is_held(
    so101: EmulatedArm, tmp_path: Path
):
    robot = so101.open()
    move_through_ranges(so101, share=0.5)
    with pytest.raises(ConfigurationError, match="joint shoulder_pan: moved through"):
        calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    assert not (tmp_path / FILE).exists()
    assert all(so101.torques[:5])


def test_an_endless_joints_zero_is_read_when_the_motors_have_taken_theirs(
    so101: EmulatedArm, tmp_path: Path
):
    robot = so101.open()
    move_through_ranges(so101)
    found = calibrate_joints(
        robot, tmp_path, guide=guide(so101), clock=so101.clock, endless=["wrist_roll"]
    )
    # The first reading is still from before: 1.24 rad.
    assert found.joints[4].zero_rad == pytest.approx(0.0, abs=0.01)


def test_an_arm_that_moves_while_its_motors_get_their_zeros_is_not_calibrated(
    so101: EmulatedArm, tmp_path: Path
):
    robot = so101.open()
    so101.clock.in_s(0.01, lambda: put(so101, POSED_RAD + 0.3 * (np.arange(5) == 2)))
    with pytest.raises(RobotError, match=r"elbow_flex: .* reads \+0.30 rad after 1 s"):
        calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    assert not (tmp_path / FILE).exists()
    assert all(so101.torques[:5])


def test_an_arm_with_a_model_of_its_own_is_calibrated_as_that(so101: EmulatedArm, tmp_path: Path):
    path = tmp_path / "stiff_elbow.urdf"
    makers = SO101_URDF.read_text()
    path.write_text(makers.replace('lower="-1.69" upper="1.69"', 'lower="-1.2" upper="1.2"'))
    robot = so101.open(model=str(path))
    move_through_ranges(so101, model=ArmModel.load(path))
    found = calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    calibrate_gripper(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    robot.close()
    assert found.arm == "stiff_elbow"
    assert found.limits_rad[2] == pytest.approx([-1.18, 1.18], abs=0.01)
    assert so101.open(model=str(path)).state().opening_m > 0
    with pytest.raises(ConfigurationError, match="is of the arm 'stiff_elbow', this is a 'so101'"):
        so101.open()


def test_a_calibration_that_fails_leaves_no_older_one_over_the_motors_new_zeros(
    so101: EmulatedArm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    calibration_of("so101").write(tmp_path)
    robot = so101.open()
    move_through_ranges(so101, share=0.5)
    with pytest.raises(ConfigurationError, match="joint shoulder_pan: moved through"):
        calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    robot.close()
    assert "from here on the arm has no calibration, and does not move" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="the arm is not calibrated"):
        so101.open().move_to(ABOVE_BIN)


def test_a_calibration_that_is_interrupted_leaves_an_arm_that_refuses_to_move(
    so101: EmulatedArm, tmp_path: Path
):
    calibration_of("so101").write(tmp_path)
    robot = so101.open()
    so101.clock.in_s(SWEEP_S / 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    robot.close()
    assert all(so101.torques[:5])
    with pytest.raises(ConfigurationError, match="the arm is not calibrated"):
        so101.open().move_to(ABOVE_BIN)


def test_an_older_calibration_stays_while_no_motor_has_a_new_zero(
    so101: EmulatedArm, tmp_path: Path
):
    before = calibration_of("so101")
    before.write(tmp_path)
    robot = so101.open()
    so101.port.unplug()
    with pytest.raises(RobotError):
        calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    assert JointCalibration.read(tmp_path) == before


def test_motors_without_zeros_of_their_own_keep_the_older_calibration(tmp_path: Path):
    with emulated_dynamixel(tmp_path) as arm:
        before = JointCalibration.read(tmp_path)
        robot = arm.open()
        arm.clock.in_s(SWEEP_S / 2, interrupt)
        with pytest.raises(KeyboardInterrupt):
            calibrate_joints(robot, tmp_path, guide=guide(arm), clock=arm.clock)
        assert JointCalibration.read(tmp_path) == before


@pytest.mark.parametrize("ends", ["blocked", "interrupted"])
def test_a_jaw_whose_ends_were_not_found_has_none(ends: str, so101: EmulatedArm, tmp_path: Path):
    before = calibration_of("so101")
    before.write(tmp_path)
    robot = so101.open()
    if ends == "blocked":
        so101.mechanics.blocks[JAW_ID] = (2.4, 2.6)
    else:
        so101.clock.in_s(0.5, interrupt)
    with pytest.raises((RobotError, KeyboardInterrupt)):
        calibrate_gripper(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    robot.close()
    found = JointCalibration.read(tmp_path)
    assert found is not None
    assert found.joints == before.joints
    with pytest.raises(ConfigurationError, match="the gripper is not calibrated"):
        so101.open().state()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_grippers_motor_finds_its_own_ends_gently(so101: EmulatedArm, tmp_path: Path):
    robot = so101.open()
    move_through_ranges(so101)
    joints = calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    torques = []
    so101.clock.in_s(1.0, lambda: torques.append(so101.torques[5]))
    found = calibrate_gripper(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    assert found is not None
    assert found.gripper is not None
    assert found.joints == joints.joints
    assert found.gripper.open_rad - found.gripper.closed_rad == pytest.approx(1.7, abs=0.01)
    assert torques == [0.2]
    assert JointCalibration.read(tmp_path) == found
    assert found.digest != joints.digest


def test_a_jaw_that_closes_as_its_counts_grow_is_told_so(so101: EmulatedArm, tmp_path: Path):
    robot = so101.open()
    move_through_ranges(so101)
    calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    found = calibrate_gripper(
        robot, tmp_path, guide=guide(so101), clock=so101.clock, reverse=["gripper"]
    )
    assert found is not None
    assert found.gripper is not None
    assert found.gripper.closed_rad - found.gripper.open_rad == pytest.approx(1.7, abs=0.01)


def test_a_jaw_that_does_not_move_is_an_error_and_left_limp(so101: EmulatedArm, tmp_path: Path):
    robot = so101.open()
    move_through_ranges(so101)
    calibrate_joints(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    so101.mechanics.blocks[JAW_ID] = (2.4, 2.6)
    with pytest.raises(RobotError, match=r"moved by 0.20 rad only: is something in the jaw"):
        calibrate_gripper(robot, tmp_path, guide=guide(so101), clock=so101.clock)
    assert so101.torques[5] == 0.0


def test_the_gripper_comes_after_the_joints(so101: EmulatedArm, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="begin with --only joints"):
        calibrate_gripper(so101.open(), tmp_path, guide=guide(so101), clock=so101.clock)


def test_a_joint_that_the_arm_does_not_have_cannot_be_reversed(so101: EmulatedArm, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no joint elbow; the so101 has shoulder_pan"):
        calibrate_joints(
            so101.open(), tmp_path, guide=guide(so101), clock=so101.clock, reverse=["elbow"]
        )
