"""Random configurations with a vertical tool, and the poses that they reach."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from robot_agent.kinematics.arm_model import ArmModel, Mount

ARMS = ("so101", "wx200")
MOUNT = Mount(x_m=-0.2, y_m=0.02, z_m=0.06, yaw_rad=0.3)


def vertical_joints(arm: ArmModel, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw joint angles within the limits whose three pitching joints add up to straight down."""
    while True:
        joints = rng.uniform(arm.lower_rad, arm.upper_rad)
        joints[3] = np.pi / 2 - joints[1] - joints[2]
        if arm.lower_rad[3] <= joints[3] <= arm.upper_rad[3]:
            return joints


def vertical_poses(
    arm: ArmModel, count: int, seed: int
) -> Iterator[tuple[NDArray[np.float64], GripperPose]]:
    """Yield joint angles and the pose that they reach."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        joints = vertical_joints(arm, rng)
        yield joints, arm.forward(joints)


def position(pose: GripperPose) -> NDArray[np.float64]:
    """Return float64[3]."""
    return np.array([pose.x_m, pose.y_m, pose.z_m])
