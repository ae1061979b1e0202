"""A simulated robot and what an agent needs around it, for tests."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protocol.hand_eye import HandEyeMap
from robot_agent.attempts.episode_loop import EpisodeLoop
from robot_agent.cameras.base import Camera
from robot_agent.config import (
    AgentConfig,
    CameraConfig,
    CameraDescription,
    DriverConfig,
    LearnerEndpointConfig,
    WorkspaceConfig,
)
from robot_agent.drivers import open_camera, open_robot
from robot_agent.robots.simulated import SimulationOptions, true_hand_eye_map
from tests.robot_agent.faulty_robot import FaultyRobot

FAULTY_ROBOT = "tests.robot_agent.faulty_robot:FaultyRobot"
SIMULATED_CAMERA = "robot_agent.cameras.simulated:SimulatedCamera"
WORKSPACE = WorkspaceConfig(x_m=(-0.105, 0.105), y_m=(-0.075, 0.075), z_m=(0.0, 0.14))


def make_config(
    folder: Path, options: dict[str, Any] | None = None, *, side_px: int = 64, **changes: Any
) -> AgentConfig:
    """Return the configuration of a robot whose camera is described as it truly is."""
    camera = SimulationOptions(**(options or {})).camera
    config = AgentConfig(
        name="robot-1",
        state_folder=folder,
        secret_key=folder / "robot.secret",
        robot=DriverConfig(driver=FAULTY_ROBOT, options=options or {}),
        camera=CameraConfig(driver=SIMULATED_CAMERA, width_px=side_px, height_px=side_px),
        workspace=WORKSPACE,
        camera_description=CameraDescription(
            position_m=camera.position_m,
            look_at_m=camera.look_at_m,
            vertical_fov_deg=camera.vertical_fov_deg,
        ),
        learner=LearnerEndpointConfig(
            episodes="tcp://127.0.0.1:1",
            releases="tcp://127.0.0.1:2",
            public_key=folder / "server.public",
            release_key=folder / "release.public",
        ),
    )
    return dataclasses.replace(config, **changes)


@dataclass(frozen=True, kw_only=True)
class Site:
    """One robot with its camera, ready for attempts."""

    config: AgentConfig
    robot: FaultyRobot
    camera: Camera
    truth: HandEyeMap
    loop: EpisodeLoop


def make_site(
    folder: Path, options: dict[str, Any] | None = None, *, seed: int = 0, side_px: int = 64
) -> Site:
    """Open a robot and its camera; the calibration is exact."""
    config = make_config(folder, options, side_px=side_px)
    robot = open_robot(config)
    assert isinstance(robot, FaultyRobot)
    camera = open_camera(config.camera, robot)
    truth = true_hand_eye_map(options or {})
    loop = EpisodeLoop(
        config=config,
        robot=robot,
        camera=camera,
        calibration=truth,
        rng=np.random.default_rng(seed),
    )
    return Site(config=config, robot=robot, camera=camera, truth=truth, loop=loop)
