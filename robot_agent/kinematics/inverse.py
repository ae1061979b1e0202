"""InverseKinematics: the joints for a vertical pinch, and the nearest one that can be had.

The solver is OptIK (https://github.com/kylc/optik): sequential quadratic programming (SLSQP) over
joint angles within their limits on the error of the grasp point's frame in se(3), as in Beeson and
Ames, "TRAC-IK" (Humanoids 2015). It starts where the arm is; only where that leads nowhere, from a
few fixed configurations. Nothing is random, and no clock decides.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import optik
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import RobotError
from robot_agent.kinematics.arm_model import ArmModel, pose_of, upright

POSITION_TOLERANCE_M = 5e-6
"""A solution is no further off; the solver usually ends hundreds of times nearer."""
ANGLE_TOLERANCE_RAD = 1e-6

_STARTS = 8
"""Upright configurations besides the joints at hand."""
_NO_CLOCK_S = 60.0
_UPRIGHT_WEIGHT = 3.0
"""Metres per radian, where a pose cannot be had: the tool stays upright at the price of its
place."""
_POLISHED_M, _NEARLY_M = 1e-7, 1e-3
_ROUNDS = 12
"""Of pulling an unreachable pose in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IkSolution:
    """Joint angles for a pose."""

    joints_rad: NDArray[np.float64]
    """float64[N], within the limits."""
    position_error_m: float
    starts: int
    """From how many configurations it was tried; 1 where the arm was near."""


class InverseKinematics:
    """Solves for one arm where it stands. Not for use from several threads at a time."""

    def __init__(self, arm: ArmModel) -> None:
        self._arm = arm
        self._exact = _settings(angular_weight=1.0)
        self._upright = _settings(angular_weight=_UPRIGHT_WEIGHT)
        drawn = np.random.default_rng(3).uniform(
            arm.lower_rad, arm.upper_rad, (_STARTS, len(arm.joints))
        )
        self._starts = [
            self._minimum(self._upright, arm.target(arm.forward(one)), one) for one in drawn
        ]

    def solve(self, pose: GripperPose, *, near: NDArray[np.float64]) -> IkSolution | None:
        """Return joints within their limits at which the tool is vertical at ``pose``.

        Of the two yaws that close alike the one nearer to the hand's comes first.

        Args:
            pose: base frame.
            near: float64[N], where the arm is: that is where the solver starts.

        Returns:
            None where there is no such configuration.

        Raises:
            RobotError: pose or joints are not finite, or not as many as the arm has.
        """
        self._refuse_what_is_not_finite(pose, near)
        targets = self._targets(pose, near)
        for tried, start in enumerate(self._starts_from(near), 1):
            for target in targets:
                joints = self._exact_minimum(target, start)
                off_m, off_rad = self._error(joints, target)
                if off_m < POSITION_TOLERANCE_M and off_rad < ANGLE_TOLERANCE_RAD:
                    return IkSolution(joints_rad=joints, position_error_m=off_m, starts=tried)
        return None

    def nearest_reachable(self, pose: GripperPose, *, near: NDArray[np.float64]) -> GripperPose:
        """Return ``pose`` where a vertical tool can be had there, else the nearest place for it.

        The yaw is kept. Applied to what it returned, it returns the same.

        Args:
            pose: base frame.
            near: float64[N], where the arm is.

        Raises:
            RobotError: pose or joints are not finite, or not as many as the arm has.
        """
        if self.solve(pose, near=near) is not None:
            return pose
        target, joints = self._least_off(self._targets(pose, near), near)
        for _ in range(_ROUNDS):
            # Upright costs a little of the place, so what is left of the tilt is taken out by
            # asking for the place that was reached.
            target[:3, 3] = self._reached(joints)[:3, 3]
            joints = self._minimum(self._upright, target, joints)
            if max(self._error(joints, target)) < _POLISHED_M:
                break
        there = pose_of(self._arm.mount.matrix() @ target)
        return GripperPose(x_m=there.x_m, y_m=there.y_m, z_m=there.z_m, yaw_rad=pose.yaw_rad)

    def displaced(
        self, joints_rad: NDArray[np.float64], *, by_m: NDArray[np.float64], turned_rad: float
    ) -> NDArray[np.float64]:
        """Return where the joints are, float64[N], when the grasp point was pushed away.

        Args:
            joints_rad: float64[N], where they would be otherwise; the tool may be tilted.
            by_m: float64[3], how far the grasp point was pushed, base frame.
            turned_rad: by how much it was turned about the vertical.

        Raises:
            RobotError: joints or push are not finite.
        """
        if not (np.isfinite(by_m).all() and math.isfinite(turned_rad)):
            raise RobotError(f"arm {self._arm.name}: pushed by {by_m} m, {turned_rad} rad")
        pushed = self._arm.transform(joints_rad)
        pushed[:3, :3] = upright(0.0, 0.0, 0.0, turned_rad)[:3, :3] @ pushed[:3, :3]
        pushed[:3, 3] += by_m
        target = self._arm.in_foot_frame(pushed)
        return self._exact_minimum(target, self._starts_from(joints_rad)[0])

    def _refuse_what_is_not_finite(self, pose: GripperPose, near: NDArray[np.float64]) -> None:
        if not (np.isfinite(pose.as_array()).all() and np.isfinite(near).all()):
            raise RobotError(f"arm {self._arm.name}: {pose} from joints {near}: not finite")

    def _least_off(
        self, targets: list[NDArray[np.float64]], near: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the target, and the joints, that leave the least distance between."""
        ends = [
            (target, self._minimum(self._upright, target, start))
            for start in self._starts_from(near)
            for target in targets
        ]
        return min(ends, key=lambda end: self._miss(end[1], end[0]))

    def _starts_from(self, near: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        near = np.clip(near, self._arm.lower_rad, self._arm.upper_rad)
        inwards = near + 0.1 * ((self._arm.lower_rad + self._arm.upper_rad) / 2 - near)
        return [near, inwards, *self._starts]

    def _targets(self, pose: GripperPose, near: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return float64[4, 4] of both yaws that close alike, in the foot's frame."""
        here_rad = self._arm.forward(near).yaw_rad
        turn = math.remainder(pose.yaw_rad - here_rad, 2 * math.pi)
        yaws = (pose.yaw_rad, pose.yaw_rad + math.pi)
        return [
            self._arm.target(dataclasses.replace(pose, yaw_rad=yaw))
            for yaw in (yaws if abs(turn) <= math.pi / 2 else reversed(yaws))
        ]

    def _exact_minimum(
        self, target: NDArray[np.float64], start: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the joints, float64[N], where the solver ends, led on where it ends too early."""
        joints = self._minimum(self._exact, target, start)
        for settings in (self._upright, self._exact):
            # Where the elbow is nearly straight the valley is flat, and some searches end in it.
            if not _POLISHED_M < self._error(joints, target)[0] < _NEARLY_M:
                break
            joints = self._minimum(settings, target, joints)
        return joints

    def _minimum(
        self,
        settings: optik.SolverConfig,
        target: NDArray[np.float64],
        start: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return the joints, float64[N], where the solver ends; ``start`` if it fails."""
        found = self._arm.chain.ik(settings, target, start)
        return np.array(found[0]) if found is not None else start

    def _reached(self, joints_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(self._arm.chain.fk(joints_rad))

    def _miss(self, joints_rad: NDArray[np.float64], target: NDArray[np.float64]) -> float:
        off_m, off_rad = self._error(joints_rad, target)
        return off_m + _UPRIGHT_WEIGHT * off_rad

    def _error(
        self, joints_rad: NDArray[np.float64], target: NDArray[np.float64]
    ) -> tuple[float, float]:
        """Return distance (metres) and about the angle (radians) between what is and is wanted."""
        off = self._reached(joints_rad) - target
        return float(np.linalg.norm(off[:3, 3])), float(np.linalg.norm(off[:3, :3]))


def _settings(*, angular_weight: float) -> optik.SolverConfig:
    """Return settings that end at a minimum, be it zero or not, by no clock and no chance."""
    return optik.SolverConfig(
        solution_mode="speed",
        max_time=_NO_CLOCK_S,
        max_restarts=1,
        tol_f=1e-16,
        tol_df=1e-18,
        tol_dx=1e-12,
        linear_weight=[1.0] * 3,
        angular_weight=[angular_weight] * 3,
    )
