"""Limits that every commanded pose passes before it reaches the robot."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from robot_agent.config import WorkspaceConfig

WRIST_LIMIT_RAD = 2 * math.pi / 3
"""Every grasp within a quarter turn either way can be had; beyond it the wrist is spared."""


class Workspace:
    """The box in which the finger tips may be, base frame."""

    def __init__(self, config: WorkspaceConfig) -> None:
        self._config = config
        quarter_turn = math.pi / 2  # either way: a parallel jaw looks the same after half a turn
        self.low = np.array(
            [config.x_m[0], config.y_m[0], config.z_m[0], -quarter_turn], np.float32
        )
        self.high = np.array(
            [config.x_m[1], config.y_m[1], config.z_m[1], quarter_turn], np.float32
        )

    def clamp(self, poses: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring poses[..., 4] inside: positions to the nearest limit, yaw to [-pi/2, pi/2)."""
        clamped = np.clip(poses, self.low, self.high)
        clamped[..., 3] = (poses[..., 3] + math.pi / 2) % math.pi - math.pi / 2
        return clamped

    def clamp_motion(self, start: GripperPose, wished: GripperPose) -> GripperPose:
        """Return the pose to command: inside the limits and not too far from ``start``.

        A wished pose that is not finite becomes ``start``: better no motion than any motion.
        """
        here = start.as_array()
        target = wished.as_array()
        target = self.clamp(target if np.isfinite(target).all() else here)
        target[3] = _nearest_equivalent(float(target[3]), float(here[3]))
        length = float(np.linalg.norm(target[:3] - here[:3]))
        if length > self._config.max_step_m:
            target[:3] = here[:3] + (target[:3] - here[:3]) * (self._config.max_step_m / length)
        return pose_from(target)


def pose_from(values: NDArray[np.float32]) -> GripperPose:
    """Return the pose with ``values`` = x, y, z (metres), yaw (radians)."""
    x, y, z, yaw = (float(value) for value in values)
    return GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=yaw)


def _nearest_equivalent(yaw_rad: float, here_rad: float) -> float:
    """Return the nearest yaw that closes alike (modulo pi) and is within the wrist's limit."""
    turns = (yaw_rad, yaw_rad - math.pi, yaw_rad + math.pi)
    return min((t for t in turns if abs(t) <= WRIST_LIMIT_RAD), key=lambda t: abs(t - here_rad))
