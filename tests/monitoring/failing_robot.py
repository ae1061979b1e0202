"""A simulated robot and camera that fail on request: drivers like anybody's, named in robot.toml.

A fault is a file in the folder that the driver's option ``faults`` names: ``worn`` takes most of
the pads' friction and shifts the gripper's zero; ``blind`` unplugs the camera until it is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from protocol.errors import CameraError
from robot_agent.cameras.base import Frame
from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.base import Robot, RobotSite
from robot_agent.robots.simulated.robot import SimulatedRobot
from robot_agent.robots.simulated.scene import Scene

WORN_FRICTION = 0.15
"""Of the pads of a worn gripper, as a share of what they had."""
WORN_ZERO_M = 0.003
"""What a worn gripper reads too much when it is closed on nothing."""


class FailingRobot(SimulatedRobot):
    """A robot whose gripper wears out when the file ``worn`` appears."""

    faults: Path
    _worn_scene: object = None

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite | None = None) -> Self:
        """See SimulatedRobot.open; ``faults`` is the folder that is looked into."""
        rest = dict(options)
        faults = Path(rest.pop("faults"))
        made = super().open(rest, site)
        made.faults = faults
        return made

    def prepare_attempt(self) -> bool:
        changed = super().prepare_attempt()
        # A refilled bin is a new scene, with pads as good as new.
        if (self.faults / "worn").exists() and self._worn_scene is not self.scene:
            _wear(self.scene)
            self._worn_scene = self.scene
        return changed

    def _measure_opening(self) -> float:
        opening = super()._measure_opening()
        return opening + WORN_ZERO_M if self._worn_scene is self.scene else opening


class FailingCamera(SimulatedCamera):
    """A camera that is unplugged while the file ``blind`` is there."""

    _faults: Path

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> Self:
        """See SimulatedCamera.open; the robot's folder of faults is looked into."""
        assert isinstance(robot, FailingRobot)
        made = super().open(options, width_px=width_px, height_px=height_px, robot=robot)
        made._faults = robot.faults
        return made

    def capture(self) -> Frame:
        if (self._faults / "blind").exists():
            raise CameraError("camera: no picture came; is it plugged in?")
        return super().capture()


def _wear(scene: Scene) -> None:
    """Take the pads' friction; of two touching surfaces the rougher one would count."""
    scene.model.geom_priority[scene.finger_geoms] = 1
    scene.model.geom_friction[scene.finger_geoms, 0] *= WORN_FRICTION
