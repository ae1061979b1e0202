"""A camera that sees a marker board in the hand of a simulated robot, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

import cv2
import numpy as np

from protocol.hand_eye import HandEyeMap, pinhole_map
from robot_agent.calibrating.marker_board import MarkerBoard
from robot_agent.cameras.base import Frame
from robot_agent.robots.base import Robot
from tests.robot_agent.calibrating.seen_board import seen, transform

TRUTH: HandEyeMap = pinhole_map(
    position_m=(-0.33, -0.09, 0.47),
    look_at_m=(0.01, 0.0, 0.03),
    vertical_fov_deg=32.0,
    roll_deg=2.0,
)
ABOVE_TIPS_M = 0.02
SEAT_RAD = (0.5, -0.4, 0.9)


class BoardCamera:
    """Satisfies Camera."""

    def __init__(self, robot: Robot, size_px: tuple[int, int]) -> None:
        self._robot = robot
        self._size_px = size_px
        self._seat = np.eye(4)
        self._seat[:3, :3] = cv2.Rodrigues(np.array(SEAT_RAD))[0]
        self._seat[:3, 3] = (0.01, 0.015, ABOVE_TIPS_M)

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> Self:
        return cls(robot, (width_px, height_px))

    def capture(self) -> Frame:
        to_base = transform(self._robot.state().pose) @ self._seat
        image = seen(MarkerBoard(), to_base, TRUTH, self._size_px)
        return Frame(image=image, captured_at_ns=time.time_ns(), exposed_ns=time.monotonic_ns())

    def close(self) -> None:
        pass
