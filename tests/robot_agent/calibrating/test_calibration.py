"""The hand-eye map that is kept for the next start, and what it depends on."""

from __future__ import annotations

from pathlib import Path

import msgspec

from robot_agent.arms.joint_calibration import GripperScale, JointCalibration, JointScale
from robot_agent.calibrating.calibration import Calibration, keep, saved_calibration
from robot_agent.calibrating.described_camera import described_map
from tests.robot_agent.simulated_agent import make_config


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path):
    config = make_config(tmp_path)
    assert saved_calibration(config) is None
    described = described_map(config.camera_description)
    keep(Calibration(hand_eye_map=described, residual=0.1, trusted=True, board_rms_px=0.3), config)
    again = saved_calibration(config)
    assert again is not None
    assert again.hand_eye_map.digest() == described.digest()
    assert (again.residual, again.trusted, again.board_rms_px) == (0.1, True, 0.3)


def test_joints_calibrated_anew_are_reason_to_measure_again_and_the_gripper_alone_is_not(
    tmp_path: Path,
):
    config = make_config(tmp_path)
    described = described_map(config.camera_description)
    keep(Calibration(hand_eye_map=described, residual=0.1, trusted=True), config)
    scale = JointScale(name="pan", direction=1, zero_rad=0.1, lower_rad=-1.0, upper_rad=1.0)
    joints = JointCalibration(arm="so101", joints=(scale,))
    joints.write(tmp_path)
    assert saved_calibration(config) is None
    keep(Calibration(hand_eye_map=described, residual=0.1, trusted=True), config)
    gripper = GripperScale(closed_rad=0.0, open_rad=1.5)
    msgspec.structs.replace(joints, gripper=gripper).write(tmp_path)
    assert saved_calibration(config) is not None
