"""Limits that every commanded pose passes before it reaches the robot."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import GraspFleetError, RobotError, SafetyFault
from robot_agent.config import WorkspaceConfig
from robot_agent.robots.base import ReachLimitedRobot, Robot

logger = logging.getLogger(__name__)

WRIST_LIMIT_RAD = 2 * math.pi / 3
"""Every grasp within a quarter turn either way can be had; beyond it the wrist is spared."""


OUTSIDE_M = 1e-4
"""By so much a pose may be outside the limits where reach and limits touch; no arm is as exact."""
_ROUNDS = 20


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

    def inside(self, pose: GripperPose) -> GripperPose:
        """Return the pose to command for a transport: the nearest one inside, however far it is.

        The yaw is replaced by one that closes alike only where the wrist's limit asks for it.
        """
        yaw_rad = pose.yaw_rad
        if abs(yaw_rad) > WRIST_LIMIT_RAD:
            yaw_rad = _nearest_equivalent((yaw_rad + math.pi / 2) % math.pi - math.pi / 2, yaw_rad)
        return GripperPose(
            x_m=float(np.clip(pose.x_m, *self._config.x_m)),
            y_m=float(np.clip(pose.y_m, *self._config.y_m)),
            z_m=float(np.clip(pose.z_m, *self._config.z_m)),
            yaw_rad=yaw_rad,
        )

    def within_reach(self, pose: GripperPose, robot: Robot | ReachLimitedRobot) -> GripperPose:
        """Return a pose near ``pose`` that the robot can have and that is inside the limits; of a
        robot that can be everywhere, ``pose``.

        What is nearest in reach may lie outside, and what is nearest inside out of reach: so both
        in turn, until they agree.

        Raises:
            RobotError: they never do.
        """
        if not isinstance(robot, ReachLimitedRobot):
            return pose
        wanted = pose
        for _ in range(_ROUNDS):
            reachable = robot.nearest_reachable(wanted)
            wanted = self.inside(reachable)
            if _apart_m(reachable, wanted) < OUTSIDE_M:
                return reachable
        raise RobotError(
            f"no pose near {pose} is both within [workspace] and in the arm's reach: the mount "
            "or the workspace is not as robot.toml says"
        )

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


@contextmanager
def held_still_after_a_fault(robot: Robot) -> Iterator[None]:
    """Stop the robot when a SafetyFault ends what it was doing; the fault itself goes on."""
    try:
        yield
    except SafetyFault:
        hold_still(robot)
        raise


def hold_still(robot: Robot) -> None:
    """Stop the robot after a fault. That it cannot be stopped is logged: the fault says more."""
    try:
        robot.stop()
    except GraspFleetError as error:
        logger.critical("the robot cannot be stopped after a safety fault: %s", error)


def pose_from(values: NDArray[np.float32]) -> GripperPose:
    """Return the pose with ``values`` = x, y, z (metres), yaw (radians)."""
    x, y, z, yaw = (float(value) for value in values)
    return GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=yaw)


def _apart_m(one: GripperPose, other: GripperPose) -> float:
    return math.dist((one.x_m, one.y_m, one.z_m), (other.x_m, other.y_m, other.z_m))


def _nearest_equivalent(yaw_rad: float, here_rad: float) -> float:
    """Return the nearest yaw that closes alike (modulo pi) and is within the wrist's limit."""
    turns = (yaw_rad, yaw_rad - math.pi, yaw_rad + math.pi)
    return min((t for t in turns if abs(t) <= WRIST_LIMIT_RAD), key=lambda t: abs(t - here_rad))
