"""What a ``robot.toml`` may say of the workspace and the camera, and what it may not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

import pytest

from protocol.configuration import from_table
from protocol.errors import ConfigurationError
from robot_agent.cameras.recorded import RecordedCameraOptions
from robot_agent.cameras.usb_settings import UsbCameraOptions
from robot_agent.config import (
    CameraConfig,
    CameraDescription,
    LabelConfig,
    LearnerEndpointConfig,
    OutboxConfig,
    WorkspaceConfig,
)
from robot_agent.robots.gcode_options import GcodeOptions
from robot_agent.robots.robotiq_2f85 import RobotiqOptions
from robot_agent.robots.servo_gripper import ServoGripperOptions
from robot_agent.robots.simulated.options import SimulationOptions

WORKSPACE = "x_m = [-0.1, 0.1]\ny_m = [-0.1, 0.1]\nz_m = [0.0, 0.1]\n"
DESCRIPTION = "position_m = [0.3, 0.0, 0.5]\nlook_at_m = [0.0, 0.0, 0.0]\nvertical_fov_deg = 40.0\n"
LEARNER = "episodes = 'tcp://a:1'\nreleases = 'tcp://a:2'\npublic_key = 'k'\nrelease_key = 'r'\n"
MANY = str(["tcp://a:1"] * 65)
T = TypeVar("T")


def parse(text: str, into: type[T]) -> T:
    return from_table(tomllib.loads(text), into, name="robot.toml", folder=Path())


@pytest.mark.parametrize(
    ("written", "meant", "words"),
    [
        ("0.5]", "500.0]", r"position_m: .* within 5 m of the origin; is it in metres"),
        ("0.5]", "-inf]", r"position_m.2 is -inf, which is not finite"),
        ("[0.0, 0.0, 0.0]", "[nan, 0.0, 0.0]", r"look_at_m.0 is nan, which is not finite"),
        ("[0.0, 0.0, 0.0]", "[0.3, 0.0, 0.5]", "position_m and look_at_m are the same place"),
        ("40.0", "nan", "vertical_fov_deg is nan"),
    ],
)
def test_a_camera_that_cannot_stand_there_is_refused(written: str, meant: str, words: str):
    assert parse(DESCRIPTION, CameraDescription).vertical_fov_deg == 40
    with pytest.raises(ConfigurationError, match=words):
        parse(DESCRIPTION.replace(written, meant), CameraDescription)


@pytest.mark.parametrize("limits", ["[-0.1, 3.1]", "[-3.1, 0.1]", "[-100.0, 100.0]"])
def test_a_workspace_larger_than_any_table_is_refused(limits: str):
    assert parse(WORKSPACE, WorkspaceConfig).z_m == (0.0, 0.1)
    with pytest.raises(ConfigurationError, match=r"workspace.y_m: .* is not within 3 m"):
        parse(WORKSPACE.replace("y_m = [-0.1, 0.1]", f"y_m = {limits}"), WorkspaceConfig)


@pytest.mark.parametrize("value", ["nan", "inf", "-1.0", "1e9"])
@pytest.mark.parametrize("option", ["timeout_s", "settle_s", "exposure_ms", "fps"])
def test_a_usb_cameras_times_are_finite_and_bounded(option: str, value: str):
    with pytest.raises(ConfigurationError, match=option):
        parse(f"{option} = {value}", UsbCameraOptions)


@pytest.mark.parametrize("value", ["nan", "inf", "-1.0", "1e9"])
@pytest.mark.parametrize("option", ["timeout_s", "fps"])
def test_a_recordings_times_are_finite_and_bounded(option: str, value: str):
    with pytest.raises(ConfigurationError, match=option):
        parse(f"path = '.'\n{option} = {value}", RecordedCameraOptions)


@pytest.mark.parametrize(
    ("into", "text", "option"),
    [
        (WorkspaceConfig, WORKSPACE + "max_step_m = 500.0", "max_step_m"),
        (CameraConfig, "driver = 'a:B'\nwidth_px = 4", "width_px"),
        (CameraConfig, "driver = 'a:B'\nheight_px = 2049", "height_px"),
        (LabelConfig, "min_opening_m = 4.0", "min_opening_m"),
        (OutboxConfig, "max_bytes = 10_000_000_000_000_000", "max_bytes"),
        (LearnerEndpointConfig, LEARNER.replace("'tcp://a:1'", MANY), "episodes"),
        (GcodeOptions, "port = 'p'\nbaud = 1", "baud"),
        (GcodeOptions, "port = 'p'\ntool_travel_s = 3600.0", "tool_travel_s"),
        (GcodeOptions, "port = 'p'\nreach_m = [110.0, 310.0]", "reach_m"),
        (ServoGripperOptions, "port = 'p'\nstroke_m = 60.0", "stroke_m"),
        (ServoGripperOptions, "port = 'p'\ntravel_s = 1e9", "travel_s"),
        (RobotiqOptions, "port = 'p'\nbaud = 1" + 30 * "0", "baud"),
        (SimulationOptions, f"seed = {2**63}", "seed"),
        (SimulationOptions, "mass_scale = 1e9", "mass_scale"),
        (SimulationOptions, "image_noise = 300.0", "image_noise"),
    ],
)
def test_a_value_that_no_robot_has_is_refused(into: type[object], text: str, option: str):
    with pytest.raises(ConfigurationError, match=option):
        parse(text, into)
