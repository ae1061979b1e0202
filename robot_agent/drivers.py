"""Loads the robot and camera drivers that ``robot.toml`` names as ``module:Class``."""

from __future__ import annotations

import importlib
from typing import Any

from protocol.errors import ConfigurationError
from robot_agent.cameras.base import Camera
from robot_agent.config import CameraConfig, DriverConfig
from robot_agent.robots.base import Robot


def open_robot(config: DriverConfig) -> Robot:
    """Connect to the robot.

    Raises:
        ConfigurationError: the driver cannot be loaded or refuses its options.
        RobotError: the robot does not answer.
    """
    robot: Robot = _load(config.driver).open(config.options)
    return robot


def open_camera(config: CameraConfig, robot: Robot) -> Camera:
    """Connect to the camera.

    Raises:
        ConfigurationError: the driver cannot be loaded or refuses its options or the size.
        CameraError: the camera does not answer.
    """
    camera: Camera = _load(config.driver).open(
        config.options, width_px=config.width_px, height_px=config.height_px, robot=robot
    )
    return camera


def _load(driver: str) -> Any:  # noqa: ANN401 - a class from outside; the protocol says what it has
    module, _, name = driver.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ConfigurationError(f"driver {driver!r}: {error}; is it installed?") from error
    except AttributeError as error:
        raise ConfigurationError(f"driver {driver!r}: {module} has no {name}") from error
