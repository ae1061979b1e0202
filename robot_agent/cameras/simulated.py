"""The simulated camera: looks at a simulated robot's scene."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from protocol.configuration import from_table
from protocol.episode import ImageArray
from protocol.errors import ConfigurationError
from robot_agent.cameras.base import Frame
from robot_agent.robots.base import Robot
from robot_agent.robots.simulated.rendering_by_gl import GlRenderer, gl_device, is_hardware
from robot_agent.robots.simulated.rendering_by_rays import RayRenderer
from robot_agent.robots.simulated.robot import SimulatedRobot

logger = logging.getLogger(__name__)

SMALLEST_PX, LARGEST_PX = 16, 512


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedCameraOptions:
    """How pictures are made; where the camera stands is an option of the robot."""

    renderer: Literal["auto", "rays", "gl"] = "auto"
    """"rays" works everywhere; "auto" takes OpenGL only where a graphics card does the work
    (without a display, MUJOCO_GL=egl lets MuJoCo find it)."""


class SimulatedCamera:
    """Renders the scene of a simulated robot; satisfies Camera."""

    def __init__(self, robot: SimulatedRobot, renderer: RayRenderer | GlRenderer) -> None:
        self._robot = robot
        self._renderer = renderer
        self._noise = np.random.default_rng([robot.options.seed, 2])

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> Self:
        """Look at ``robot``'s scene.

        Raises:
            ConfigurationError: ``robot`` is not simulated, an option is unknown, the size is out
                of range, or OpenGL was asked for and is not there.
        """
        parsed = from_table(
            dict(options), SimulatedCameraOptions, name="simulated camera options", folder=Path()
        )
        if not isinstance(robot, SimulatedRobot):
            raise ConfigurationError(
                f"simulated camera: {type(robot).__name__} has no scene to look at; use it with "
                "robot_agent.robots.simulated:SimulatedRobot"
            )
        if not all(SMALLEST_PX <= size <= LARGEST_PX for size in (width_px, height_px)):
            raise ConfigurationError(
                f"simulated camera: {width_px}x{height_px} px; each side must be "
                f"{SMALLEST_PX} to {LARGEST_PX}"
            )
        return cls(robot, _open_renderer(parsed.renderer, width_px, height_px, robot))

    @property
    def renderer(self) -> Literal["rays", "gl"]:
        """How pictures are made."""
        return "rays" if isinstance(self._renderer, RayRenderer) else "gl"

    def capture(self) -> Frame:
        """Return a picture of the scene as it is now."""
        image = self._renderer.render(self._robot.scene)
        return Frame(
            image=self._with_noise(image, self._robot.options.image_noise),
            captured_at_ns=time.time_ns(),
            exposed_ns=time.monotonic_ns(),
        )

    def close(self) -> None:
        """Give back what the renderer holds."""
        self._renderer.close()

    def _with_noise(self, image: ImageArray, level: float) -> ImageArray:
        if level == 0:
            return image
        noise = self._noise.standard_normal(image.shape, np.float32) * np.float32(level)
        return (image + noise + np.float32(0.5)).clip(0, 255).astype(np.uint8)


def _open_renderer(
    wanted: str, width_px: int, height_px: int, robot: SimulatedRobot
) -> RayRenderer | GlRenderer:
    rays = RayRenderer(width_px, height_px, robot.options.light)
    if wanted == "rays" or os.environ.get("MUJOCO_GL", "").lower() in ("disable", "off"):
        if wanted == "gl":
            raise ConfigurationError("renderer 'gl': MUJOCO_GL switches OpenGL off")
        return rays
    if wanted == "auto" and not is_hardware(gl_device()):
        logger.info("pictures by casting rays", extra={"gl_device": gl_device()})
        return rays
    if gl_device() is None:
        raise ConfigurationError(
            "renderer 'gl': no OpenGL context on this machine; use renderer = 'auto'"
        )
    return GlRenderer(width_px, height_px)
