"""ArmMotions: what a calibrated arm does with its joints, one motion after the other."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import RobotError
from robot_agent.arms.hand_path import HandPaths
from robot_agent.arms.joint_drive import JointDrive, JointReadings
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import ArmModel

logger = logging.getLogger(__name__)

UNFOLDING_SLOWDOWN = 4.0
UPRIGHT_RAD = 0.15
"""A hand that leans by more has to be unfolded first."""


class ArmMotions:
    """Moves one arm. Everything may raise RobotError and SafetyFault; see JointDrive."""

    def __init__(
        self,
        drive: JointDrive,
        paths: HandPaths,
        model: ArmModel,
        *,
        parking_rad: NDArray[np.float64],
        clearance_m: float,
        safety: SafetyConfig,
    ) -> None:
        """Take the parts; nothing moves.

        Args:
            drive: of the joints.
            paths: plans for the same arm.
            model: where it stands.
            parking_rad: float64[N], joints that put the hand out of the camera's view.
            clearance_m: height of the finger tips above which the joints may turn as they like.
            safety: the site's limits.
        """
        self.model = model
        self._drive = drive
        self._paths = paths
        self._parking_rad = parking_rad
        self._clearance_m = clearance_m
        self._safety = safety
        self._is_unfolded = False

    def read(self) -> JointReadings:
        """Measure the joints now."""
        return self._drive.read()

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        """Return ``pose`` where it can be had, else a pose near it that can; nothing moves."""
        return self._paths.nearest_reachable(pose, near=self._drive.read().joints_rad)

    def make_ready(self) -> None:
        """Switch the motors on where the arm is; unfold it if that is its first motion, or if
        something has tilted it since.
        """
        self._drive.engage(self._safety.max_torque)
        is_upright = self.model.tilt_rad(self._drive.read().joints_rad) <= UPRIGHT_RAD
        if not (self._is_unfolded and is_upright):
            self._unfold(is_upright=is_upright)

    def go(self, pose: GripperPose, slowdown: float = 1.0) -> bool:
        """Go straight to ``pose``; return whether the hand arrived."""
        start_rad = self._drive.read().joints_rad
        path = self._paths.line_to(pose, start_rad=start_rad, slowdown=slowdown)
        return self._drive.follow(path)

    def park(self, slowdown: float = 1.0) -> None:
        """Rise, then go to the parking pose.

        Raises:
            RobotError: something is in the way.
        """
        self._rise(slowdown)
        self._turn_to_parking(slowdown)

    def _unfold(self, *, is_upright: bool) -> None:
        logger.info("arm unfolds slowly to its parking pose")
        self._is_unfolded = False
        self._drive.engage(self._safety.hold_torque)
        if is_upright:
            self._rise(UNFOLDING_SLOWDOWN)
        self._turn_to_parking(UNFOLDING_SLOWDOWN)
        self._drive.engage(self._safety.max_torque)
        self._is_unfolded = True

    def _rise(self, slowdown: float) -> None:
        """Bring the finger tips straight up to ``clearance_m``, if they are lower."""
        here = self.model.forward(self._drive.read().joints_rad)
        up = replace(here, z_m=self._clearance_m)
        if here.z_m < up.z_m and not self.go(up, slowdown):
            raise _blocked("rising")

    def _turn_to_parking(self, slowdown: float) -> None:
        start_rad = self._drive.read().joints_rad
        path = self._paths.joints_to(self._parking_rad, start_rad=start_rad, slowdown=slowdown)
        if not self._drive.follow(path):
            raise _blocked("on its way to the parking pose")


def _blocked(when: str) -> RobotError:
    return RobotError(
        f"something is in the arm's way {when}; it stays where it is: clear the way (with nothing "
        "there, [safety] gives its motors too little torque)"
    )
