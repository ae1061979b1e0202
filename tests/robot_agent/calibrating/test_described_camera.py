"""The map of a camera as it is described: the one of an ideal pinhole camera."""

from __future__ import annotations

from fleet.camera_description import workspace_points
from protocol.hand_eye import pinhole_map
from robot_agent.calibrating.described_camera import described_map
from robot_agent.config import CameraDescription
from tests.robot_agent.simulated_agent import WORKSPACE

POINTS = workspace_points(WORKSPACE.x_m, WORKSPACE.y_m)


def test_a_camera_described_exactly_has_the_exact_map():
    description = CameraDescription(
        position_m=(-0.3, -0.1, 0.5), look_at_m=(0.02, 0.01, 0.0), vertical_fov_deg=33.0
    )
    exact = pinhole_map(
        position_m=description.position_m, look_at_m=description.look_at_m, vertical_fov_deg=33.0
    )
    assert described_map(description).error_m(exact, POINTS) < 1e-6
