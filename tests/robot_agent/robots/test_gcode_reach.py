"""The nearest pose that a G-code arm can have."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.episode import GripperPose
from robot_agent.kinematics.arm_model import Mount
from robot_agent.robots.gcode_options import GcodeOptions
from robot_agent.robots.gcode_reach import GcodeReach

poses = st.builds(
    GripperPose,
    x_m=st.floats(-1, 1), y_m=st.floats(-1, 1), z_m=st.floats(-1, 1), yaw_rad=st.floats(-7, 7),
)  # fmt: skip
mounts = st.builds(
    Mount, x_m=st.floats(-0.5, 0.5), y_m=st.floats(-0.5, 0.5), yaw_rad=st.floats(-3, 3)
)


@given(poses, mounts, st.sampled_from([-1, 1]), st.booleans())
def test_every_pose_has_a_reachable_one_near_it_and_that_is_its_own(
    pose: GripperPose, mount: Mount, wrist_direction: int, is_wrist_carried: bool
):
    reach = GcodeReach(
        GcodeOptions(
            port="/dev/x",
            mount=mount,
            wrist_direction=wrist_direction,  # type: ignore[arg-type]
            is_wrist_carried=is_wrist_carried,
        )
    )
    told = reach.to_controller(pose)
    assert 0.11 - 1e-9 <= math.hypot(told.x_m, told.y_m) <= 0.31 + 1e-9
    assert -0.05 <= told.z_m <= 0.15
    assert -1e-6 <= told.wrist_deg <= 180 + 1e-6
    nearest = reach.nearest(pose)
    # The same way of closing, whatever the place.
    assert abs(math.remainder(nearest.yaw_rad - pose.yaw_rad, math.pi)) < 1e-6
    again = reach.nearest(nearest)
    assert again.as_array() == pytest.approx(nearest.as_array(), abs=1e-6)


@given(poses, poses, st.floats(0.5, math.pi))
def test_the_whole_way_between_two_poses_is_within_reach(
    start: GripperPose, goal: GripperPose, half_turn_rad: float
):
    reach = GcodeReach(GcodeOptions(port="/dev/x", half_turn_rad=half_turn_rad))
    here, there = reach.to_controller(start), reach.to_controller(goal)
    way = reach.way(here, there)
    assert way[-1] == there
    shares = np.linspace(0.0, 1.0, 50)[:, None]
    for one, next_one in pairwise([here, *way]):
        first, last = np.array([one.x_m, one.y_m]), np.array([next_one.x_m, next_one.y_m])
        line = first + shares * (last - first)
        radii_m = np.linalg.norm(line, axis=1)
        assert radii_m.min() >= 0.1098
        assert radii_m.max() <= 0.31 + 1e-9
        if math.dist(first, last) > 1e-6:
            turns_rad = np.arctan2(line[:, 1], line[:, 0])
            assert abs(turns_rad[1:-1]).max() <= half_turn_rad + 1e-6
    heights_m = [here.z_m, *(place.z_m for place in way)]
    assert min(heights_m) >= min(here.z_m, there.z_m) - 1e-12
