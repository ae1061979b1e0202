"""HandPaths: straight lines of the finger tips, as paths of the joints."""

from __future__ import annotations

import logging
import math

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import RobotError
from robot_agent.arms.joint_path import JointPath, minimum_jerk, path_through
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.kinematics.inverse import InverseKinematics

logger = logging.getLogger(__name__)

FEWEST_POINTS, MOST_POINTS = 9, 41
POINT_M = 0.01
"""One point more for each."""
POINT_RAD = 0.1
LEAP_RAD = 0.7
"""A joint that would turn by more between two points takes another configuration of the arm."""
LEAP_SLOWDOWN = 2.0
LIFT_M, HIGHEST_LIFT_M = 0.01, 0.15
"""By which a leap is raised in its middle until its finger tips stay high enough."""
LOW_BY_M = 1e-4
_NUDGE_RAD = 1e-5


class HandPaths:
    """Plans for one arm, within its limits."""

    def __init__(self, arm: ArmModel, inverse: InverseKinematics, safety: SafetyConfig) -> None:
        self._arm = arm
        self._inverse = inverse
        self._safety = safety

    def line_to(
        self, pose: GripperPose, *, start_rad: NDArray[np.float64], slowdown: float = 1.0
    ) -> JointPath:
        """Return the straight way of the finger tips to ``pose``, the hand upright.

        A pose that cannot be had is replaced by the nearest that can, also on the way. Where the
        way would need another configuration of the arm, the joints go there straight instead,
        slowly, and so that the finger tips stay above the lower of both ends.

        Args:
            pose: base frame; of the two yaws that close alike the nearer one is taken.
            start_rad: float64[N], where the joints are; a small tilt there is lost on the way.
            slowdown: how many times the shortest duration.

        Raises:
            RobotError: no configuration of the arm was found for the pose, or no way there.
        """
        start, pose = self._arm.forward(start_rad), self.nearest_reachable(pose, near=start_rad)
        way, turn_rad = _between(start, pose), _half_turn(pose.yaw_rad - start.yaw_rad)
        length_m = float(np.linalg.norm(way))
        count = FEWEST_POINTS + math.ceil(max(length_m / POINT_M, abs(turn_rad) / POINT_RAD))
        shares = minimum_jerk(min(count, MOST_POINTS))
        points: list[NDArray[np.float64]] = []
        near = start_rad
        for share in shares:
            there = _along(start, way, turn_rad, float(share))
            joints = self.joints_at(there, near=near)
            if np.abs(joints - near).max() > LEAP_RAD:
                end_rad = self.joints_at(pose, near=start_rad)
                return self._leap(start_rad, end_rad, LEAP_SLOWDOWN * slowdown)
            points.append(joints)
            near = joints
        line = np.stack(points)
        line += (1 - shares[:, None]) * (start_rad - line[0])
        return self._timed(line, slowdown)

    def joints_to(
        self,
        end_rad: NDArray[np.float64],
        *,
        start_rad: NDArray[np.float64],
        slowdown: float = 1.0,
    ) -> JointPath:
        """Return the way on which all joints go straight from start to end, float64[N] each,
        whatever the hand does meanwhile.
        """
        shares = minimum_jerk(MOST_POINTS)[:, None]
        return self._timed(start_rad + shares * (end_rad - start_rad), slowdown)

    def nearest_reachable(self, pose: GripperPose, *, near: NDArray[np.float64]) -> GripperPose:
        """Return ``pose`` where it can be had, else the nearest pose that can."""
        return self._inverse.nearest_reachable(pose, near=near)

    def joints_at(self, pose: GripperPose, *, near: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the joints, float64[N], for ``pose`` or the nearest pose that can be had.

        Raises:
            RobotError: none was found.
        """
        solution = self._inverse.solve(pose, near=near)
        if solution is None:
            pose = self._inverse.nearest_reachable(pose, near=near)
            solution = self._inverse.solve(pose, near=near)
        if solution is None:
            raise RobotError(f"{self._arm.name}: no joint angles were found for {pose}")
        return solution.joints_rad

    def _leap(
        self, start_rad: NDArray[np.float64], end_rad: NDArray[np.float64], slowdown: float
    ) -> JointPath:
        """Return a way to another configuration of the arm on which the tips go nowhere lower than
        at its lower end.
        """
        shares = minimum_jerk(MOST_POINTS)[:, None]
        straight = start_rad + shares * (end_rad - start_rad)
        lowest_m = min(self._height_m(start_rad), self._height_m(end_rad)) - LOW_BY_M
        upwards = np.stack([self._upwards(one) for one in straight]) * 4 * shares * (1 - shares)
        for lift_m in np.arange(0.0, HIGHEST_LIFT_M, LIFT_M):
            way = np.clip(straight + lift_m * upwards, *self._room(start_rad))
            if min(self._height_m(one) for one in way) >= lowest_m:
                logger.info(
                    "arm takes another configuration, its hand leaves the line",
                    extra={"arm": self._arm.name, "lift_m": float(lift_m)},
                )
                return self._timed(way, slowdown)
        raise RobotError(
            f"{self._arm.name}: no way was found from joints {start_rad.round(2).tolist()} to "
            f"{end_rad.round(2).tolist()} rad on which the finger tips stay above {lowest_m:.3f} m"
        )

    def _room(
        self, start_rad: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the joints' limits, float64[N] each, wide enough for where they are."""
        arm = self._arm
        return np.minimum(arm.lower_rad, start_rad), np.maximum(arm.upper_rad, start_rad)

    def _height_m(self, joints_rad: NDArray[np.float64]) -> float:
        return float(self._arm.transform(joints_rad)[2, 3])

    def _upwards(self, joints_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return by how much the joints turn, float64[N], per metre that the tips rise."""
        nudges = _NUDGE_RAD * np.eye(len(joints_rad))
        here_m = self._height_m(joints_rad)
        slopes = np.array([self._height_m(joints_rad + nudge) - here_m for nudge in nudges])
        slopes /= _NUDGE_RAD
        return np.asarray(slopes / max(float(slopes @ slopes), 1e-6))

    def _timed(self, joints_rad: NDArray[np.float64], slowdown: float) -> JointPath:
        tips_m = np.stack([self._arm.transform(one)[:3, 3] for one in joints_rad])
        return path_through(joints_rad, tips_m, safety=self._safety, slowdown=slowdown)


def _between(start: GripperPose, end: GripperPose) -> NDArray[np.float64]:
    return np.array([end.x_m - start.x_m, end.y_m - start.y_m, end.z_m - start.z_m])


def _along(
    start: GripperPose, way: NDArray[np.float64], turn_rad: float, share: float
) -> GripperPose:
    x, y, z = (float(step) * share for step in way)
    return GripperPose(
        x_m=start.x_m + x,
        y_m=start.y_m + y,
        z_m=start.z_m + z,
        yaw_rad=start.yaw_rad + turn_rad * share,
    )


def _half_turn(angle_rad: float) -> float:
    """Return the turn in [-pi/2, pi/2] after which the fingers close alike."""
    return math.remainder(angle_rad, math.pi)
