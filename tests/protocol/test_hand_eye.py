"""Hand-eye maps: how far one is from another."""

from __future__ import annotations

import pytest

from fleet.camera_description import workspace_points
from protocol.hand_eye import pinhole_map

POINTS = workspace_points((-0.105, 0.105), (-0.075, 0.075))


def test_the_error_between_two_maps_is_a_distance_in_the_workspace():
    exact = pinhole_map(
        position_m=(-0.3, -0.1, 0.5), look_at_m=(0.02, 0.01, 0.0), vertical_fov_deg=33.0
    )
    # A camera that stands 5 mm further in x and 12 mm in y sees everything shifted by 13 mm.
    shifted = pinhole_map(
        position_m=(-0.295, -0.088, 0.5), look_at_m=(0.025, 0.022, 0.0), vertical_fov_deg=33.0
    )
    assert shifted.error_m(exact, POINTS) == pytest.approx(0.013, rel=1e-3)
    assert exact.error_m(exact, POINTS) < 1e-6
