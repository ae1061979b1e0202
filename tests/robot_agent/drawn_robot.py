"""A robot and its camera without physics: a gripper drawn over a flat bin. Light, no MuJoCo."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.hand_eye import pinhole_map
from robot_agent.cameras.base import Frame
from robot_agent.robots.base import GripperModel, Robot, RobotSite, RobotState

CAMERA = {"position_m": (-0.34, -0.10, 0.46), "look_at_m": (0.0, 0.0, 0.028)}
FOV_DEG = 31.0
GRIPPER = GripperModel(
    max_opening_m=0.08,
    body_boxes=np.array([[[-0.015, -0.05, 0.055], [0.015, 0.05, 0.085]]]),
    finger_box=np.array([[-0.008, 0.0, 0.0], [0.008, 0.01, 0.055]]),
)
PARKED = GripperPose(x_m=0.0, y_m=0.0, z_m=0.6, yaw_rad=0.0)


class DrawnRobot:
    """Goes wherever it is sent, at once, and never holds anything."""

    def __init__(self) -> None:
        self._pose = PARKED
        self._opening_m = GRIPPER.max_opening_m

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite | None = None) -> Self:
        """Take no options."""
        assert not options
        return cls()

    @property
    def gripper(self) -> GripperModel:
        """A palm and two fingers."""
        return GRIPPER

    def state(self) -> RobotState:
        """Return where it was sent last."""
        return RobotState(pose=self._pose, opening_m=self._opening_m, measured_at_ns=time.time_ns())

    def move_to(self, pose: GripperPose) -> RobotState:
        """Be there."""
        self._pose = pose
        return self.state()

    def open_gripper(self) -> float:
        """Open at once."""
        self._opening_m = GRIPPER.max_opening_m
        return self._opening_m

    def close_gripper(self) -> float:
        """Close on nothing."""
        self._opening_m = 0.0
        return self._opening_m

    def retreat(self) -> RobotState:
        """Be out of view."""
        return self.move_to(PARKED)

    def prepare_attempt(self) -> bool:
        """Nothing to prepare."""
        return False

    def stop(self) -> None:
        """It never moves."""

    def close(self) -> None:
        """Nothing to disconnect."""


class DrawnCamera:
    """Draws the gripper's boxes over a fixed picture of a bin."""

    def __init__(self, robot: DrawnRobot, height_px: int, width_px: int) -> None:
        self._robot = robot
        self._shape = (height_px, width_px)
        noise = np.random.default_rng(0).integers(90, 160, (height_px, width_px, 3))
        self._bin = noise.astype(np.uint8)
        self._map = pinhole_map(**CAMERA, vertical_fov_deg=FOV_DEG, aspect=width_px / height_px)

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> Self:
        """Look at a DrawnRobot."""
        assert not options
        assert isinstance(robot, DrawnRobot)
        return cls(robot, height_px, width_px)

    def capture(self) -> Frame:
        """Return the bin with the hand in front of it."""
        image = self._bin.copy()
        state = self._robot.state()
        for box in GRIPPER.boxes(state.opening_m):
            pixels = self._pixels(box, state.pose)
            cv2.fillConvexPoly(image, cv2.convexHull(pixels), (10, 10, 30))
        return Frame(image=image, captured_at_ns=time.time_ns(), exposed_ns=time.monotonic_ns())

    def close(self) -> None:
        """Nothing to disconnect."""

    def _pixels(self, box: NDArray[np.float64], pose: GripperPose) -> NDArray[np.int32]:
        corners = np.array(
            [[box[i >> 2 & 1, 0], box[i >> 1 & 1, 1], box[i & 1, 2]] for i in range(8)]
        )
        sin, cos = np.sin(pose.yaw_rad), np.cos(pose.yaw_rad)
        turned = corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        uv = self._map.project(turned + np.array([pose.x_m, pose.y_m, pose.z_m]))
        height, width = self._shape
        return np.round((uv + 1) * [width / 2, height / 2] - 0.5).astype(np.int32)
