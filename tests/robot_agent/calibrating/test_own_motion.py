"""A simulated robot finds its own hand-eye map from a description that is wrong."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.camera_description import falsify, workspace_points
from protocol.errors import HandEyeError, RobotError
from protocol.hand_eye import HandEyeMap
from robot_agent.calibrating.calibration import Calibration
from robot_agent.calibrating.described_camera import described_map
from robot_agent.calibrating.own_motion import find_hand_eye_map, load_or_find
from robot_agent.cameras.base import Camera
from robot_agent.config import AgentConfig, CameraDescription
from robot_agent.drivers import open_camera, open_robot
from robot_agent.robots.simulated import randomised_options, true_hand_eye_map
from tests.robot_agent.faulty_robot import FaultyRobot
from tests.robot_agent.simulated_agent import WORKSPACE, make_config

POINTS = workspace_points(WORKSPACE.x_m, WORKSPACE.y_m)
SEEDS = (3, 1004)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A robot after its first start."""

    config: AgentConfig
    robot: FaultyRobot
    camera: Camera
    truth: HandEyeMap
    calibration: Calibration


def described_as(config: AgentConfig, description: CameraDescription) -> AgentConfig:
    return dataclasses.replace(config, camera_description=description)


def open_both(config: AgentConfig) -> tuple[FaultyRobot, Camera]:
    robot = open_robot(config)
    assert isinstance(robot, FaultyRobot)
    return robot, open_camera(config.camera, robot)


@pytest.fixture(scope="module", params=SEEDS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Start a robot of its own camera pose, light and wear from a falsified description."""
    options: dict[str, Any] = randomised_options(request.param, "camera-and-wear")
    true = CameraDescription(**options["camera"])
    wrong = falsify(true, np.random.default_rng([request.param, 1]))
    config = described_as(make_config(tmp_path_factory.mktemp("state")), wrong)
    config = dataclasses.replace(config, robot=dataclasses.replace(config.robot, options=options))
    robot, camera = open_both(config)
    return Found(
        config=config,
        robot=robot,
        camera=camera,
        truth=true_hand_eye_map(options),
        calibration=load_or_find(robot, camera, config, np.random.default_rng(0)),
    )


def test_the_map_it_finds_is_within_four_millimetres(found: Found):
    described_m = described_map(found.config.camera_description).error_m(found.truth, POINTS)
    found_m = found.calibration.hand_eye_map.error_m(found.truth, POINTS)
    assert found.calibration.trusted
    assert described_m > 0.008
    assert found_m < 0.004


def test_the_hand_ends_open_and_out_of_view(found: Found):
    state = found.robot.state()
    assert state.pose.z_m > 0.3
    assert state.opening_m > 0.07


def test_the_next_start_takes_the_saved_map_without_a_motion(found: Found):
    robot, camera = open_both(found.config)
    robot.fail_at(1)
    again = load_or_find(robot, camera, found.config, np.random.default_rng(1))
    assert again.hand_eye_map.digest() == found.calibration.hand_eye_map.digest()
    assert (again.residual, again.trusted) == (found.calibration.residual, True)


@pytest.mark.parametrize("content", [b"", b"{", b'{"matrix": [1, 2, 3]}'])
def test_a_damaged_file_is_found_anew(
    found: Found, content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    config = dataclasses.replace(found.config, state_folder=tmp_path)
    (tmp_path / "calibration.json").write_bytes(content)
    # It begins to move, which is enough to know that it measures again.
    found.robot.fail_at(1)
    with pytest.raises(Exception, match="servo 3 does not answer"):
        load_or_find(found.robot, found.camera, config, np.random.default_rng(0))
    found.robot.retreat()
    assert "is damaged" in caplog.text
    assert "calibration.json" in caplog.text


def test_a_changed_description_is_reason_to_measure_again(found: Found):
    description = dataclasses.replace(found.config.camera_description, vertical_fov_deg=40.0)
    found.robot.fail_at(1)
    with pytest.raises(Exception, match="servo 3 does not answer"):
        load_or_find(
            found.robot,
            found.camera,
            described_as(found.config, description),
            np.random.default_rng(0),
        )
    found.robot.retreat()


def with_options(config: AgentConfig, **options: object) -> AgentConfig:
    robot = dataclasses.replace(config.robot, options=config.robot.options | options)
    return dataclasses.replace(config, robot=robot)


def test_another_arm_or_camera_is_reason_to_measure_again(found: Found):
    camera = dataclasses.replace(found.config.camera, options={"renderer": "rays"})
    for config in (
        with_options(found.config, gripper_wear=0.9),
        dataclasses.replace(found.config, camera=camera),
    ):
        found.robot.fail_at(1)
        with pytest.raises(RobotError, match="servo 3 does not answer"):
            load_or_find(found.robot, found.camera, config, np.random.default_rng(0))
        found.robot.retreat()


def test_another_bin_before_the_same_camera_is_not(found: Found):
    config = with_options(found.config, seed=99, objects="held-out", attempts_per_scene=1)
    again = load_or_find(found.robot, found.camera, config, np.random.default_rng(0))
    assert again.hand_eye_map.digest() == found.calibration.hand_eye_map.digest()


def test_the_hand_stays_inside_a_workspace_that_begins_high(tmp_path: Path):
    workspace = dataclasses.replace(WORKSPACE, z_m=(0.08, 0.14))
    config = make_config(tmp_path, workspace=workspace)
    robot, camera = open_both(config)
    sent: list[float] = []
    go = robot.move_to
    robot.move_to = lambda pose: sent.append(pose.z_m) or go(pose)
    robot.fail_at(12)
    with pytest.raises(RobotError):
        find_hand_eye_map(robot, camera, config, np.random.default_rng(0))
    assert len(sent) == 12
    assert min(sent) >= 0.08


def test_a_description_of_another_camera_is_not_trusted_and_said_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    other = CameraDescription(
        position_m=(0.34, 0.40, 0.30), look_at_m=(0.3, 0.3, 0.3), vertical_fov_deg=60.0
    )
    config = described_as(make_config(tmp_path), other)
    found = find_hand_eye_map(*open_both(config), config, np.random.default_rng(0))
    assert not found.trusted
    assert found.hand_eye_map.digest() == described_map(other).digest()
    assert found.residual > 0.5
    assert "hand-eye map cannot be right" in caplog.text


def test_a_camera_that_looks_elsewhere_is_an_error_that_says_what_to_check(tmp_path: Path):
    elsewhere = {"camera": {"look_at_m": [-2.0, -0.2, 0.5]}}
    config = make_config(tmp_path)
    config = dataclasses.replace(config, robot=dataclasses.replace(config.robot, options=elsewhere))
    with pytest.raises(HandEyeError, match=r"robot-1: .* does not see the gripper: check where"):
        find_hand_eye_map(*open_both(config), config, np.random.default_rng(0))
