"""Loads the robot and camera drivers that ``robot.toml`` names as ``module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from protocol.errors import ConfigurationError
from robot_agent.cameras.base import Camera
from robot_agent.config import AgentConfig, CameraConfig
from robot_agent.robots.base import Robot, RobotSite, unwatched


def open_robot(config: AgentConfig, beat: Callable[[], None] = unwatched) -> Robot:
    """Connect to the robot.

    Args:
        config: of the agent.
        beat: what the driver gives signs of life with; see RobotSite.

    Raises:
        ConfigurationError: the driver cannot be loaded or refuses its options.
        RobotError: the robot does not answer.
    """
    site = site_of(config, beat)
    robot: Robot = load_driver(config.robot.driver).open(config.robot.options, site)
    return robot


def site_of(config: AgentConfig, beat: Callable[[], None] = unwatched) -> RobotSite:
    """Return what the robot's driver is told of its surroundings."""
    return RobotSite(
        name=config.name, state_folder=config.state_folder, safety=config.safety, beat=beat
    )


def open_camera(config: CameraConfig, robot: Robot) -> Camera:
    """Connect to the camera and take a picture, to see that it has the size asked for.

    Raises:
        ConfigurationError: the driver cannot be loaded, refuses its options or the size, or gives
            pictures of another size.
        CameraError: the camera does not answer.
    """
    camera: Camera = load_driver(config.driver).open(
        config.options, width_px=config.width_px, height_px=config.height_px, robot=robot
    )
    height_px, width_px = camera.capture().image.shape[:2]
    if (height_px, width_px) != (config.height_px, config.width_px):
        camera.close()
        raise ConfigurationError(
            f"camera {config.driver!r} gives pictures of {width_px}x{height_px} px, but "
            f"camera.width_px and camera.height_px ask for {config.width_px}x{config.height_px}"
        )
    return camera


def load_driver(driver: str) -> Any:  # noqa: ANN401 - a class from outside; the protocol says what it has
    """Return the class that ``module:Class`` names. Raises ConfigurationError if there is none."""
    module, _, name = driver.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ConfigurationError(f"driver {driver!r}: {error}; is it installed?") from error
    except AttributeError as error:
        raise ConfigurationError(f"driver {driver!r}: {module} has no {name}") from error
    if not hasattr(found, "open"):
        raise ConfigurationError(f"driver {driver!r}: {name} is no driver, it has no open()")
    return found
