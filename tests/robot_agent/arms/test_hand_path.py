"""HandPaths: where the finger tips go, also where they cannot go straight."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from protocol.episode import GripperPose
from robot_agent.arms.hand_path import HandPaths
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.kinematics.inverse import InverseKinematics
from robot_agent.robots.dynamixel_x import DynamixelXOptions
from robot_agent.robots.so101 import SO101Options

MOUNTS = {"so101": SO101Options(port="").mount, "wx200": DynamixelXOptions(port="").mount}
LINES = 120


@pytest.mark.parametrize("name", MOUNTS)
def test_a_hand_that_must_leave_its_line_stays_above_the_lower_end(
    name: str, caplog: pytest.LogCaptureFixture
):
    arm = ArmModel.load(name, mount=MOUNTS[name])
    paths = HandPaths(arm, InverseKinematics(arm), SafetyConfig())
    drawn = np.random.default_rng(11)
    joints_rad = paths.joints_at(
        GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=0.0),
        near=(arm.lower_rad + arm.upper_rad) / 2,
    )
    lowest_m = []
    with caplog.at_level(logging.INFO, logger="robot_agent.arms.hand_path"):
        for _ in range(LINES):
            x_m, y_m, z_m, yaw_rad = drawn.uniform(
                (-0.1, -0.07, 0.001, -1.57), (0.1, 0.07, 0.16, 1.57)
            ).tolist()
            pose = GripperPose(x_m=x_m, y_m=y_m, z_m=z_m, yaw_rad=yaw_rad)
            caplog.clear()
            path = paths.line_to(pose, start_rad=joints_rad)
            joints_rad = path.joints_rad[-1]
            if "leaves the line" in caplog.text:
                moments_s = np.linspace(0.0, path.duration_s, 200)
                heights_m = [arm.transform(path.at(one))[2, 3] for one in moments_s]
                lowest_m.append(min(heights_m) - min(heights_m[0], heights_m[-1]))
                assert arm.tilt_rad(joints_rad) < 1e-3
    assert len(lowest_m) >= 3
    assert min(lowest_m) > -5e-4
