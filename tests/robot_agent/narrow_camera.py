"""A camera driver that gives pictures of half the width it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from robot_agent.cameras.base import Frame
from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.base import Robot


class NarrowCamera:
    """Satisfies Camera, except for the size."""

    def __init__(self, camera: SimulatedCamera) -> None:
        self._camera = camera

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> Self:
        camera = SimulatedCamera.open(
            options, width_px=width_px // 2, height_px=height_px, robot=robot
        )
        return cls(camera)

    def capture(self) -> Frame:
        return self._camera.capture()

    def close(self) -> None:
        self._camera.close()
