"""The limits that every commanded pose passes, whatever was wished."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError
from robot_agent.calibrating.own_motion import VIEWS, viewing_poses
from robot_agent.config import WorkspaceConfig
from robot_agent.safety.workspace import OUTSIDE_M, WRIST_LIMIT_RAD, Workspace
from tests.robot_agent.simulated_agent import WORKSPACE

ROUNDING_M = 1e-6
INSIDE = st.builds(
    GripperPose,
    x_m=st.floats(*WORKSPACE.x_m),
    y_m=st.floats(*WORKSPACE.y_m),
    z_m=st.floats(*WORKSPACE.z_m),
    yaw_rad=st.floats(-WRIST_LIMIT_RAD, WRIST_LIMIT_RAD),
)
ANY = st.floats(width=32)
ANYWHERE = st.builds(GripperPose, x_m=ANY, y_m=ANY, z_m=ANY, yaw_rad=ANY)
TEN = st.floats(-10, 10)
ANY_FINITE = st.builds(GripperPose, x_m=TEN, y_m=TEN, z_m=TEN, yaw_rad=TEN)
CENTRE = GripperPose(x_m=0.0, y_m=0.0, z_m=0.07, yaw_rad=0.0)


@pytest.mark.parametrize("limits", [(-math.inf, 0.1), (0.0, math.nan)])
def test_limits_that_are_not_finite_are_refused(limits: tuple[float, float]):
    with pytest.raises(ConfigurationError, match=r"workspace\.y_m: .* is not finite"):
        WorkspaceConfig(x_m=(-1, 1), y_m=limits, z_m=(0, 1))


@given(start=INSIDE, wished=ANYWHERE)
@example(start=CENTRE, wished=GripperPose(x_m=math.inf, y_m=0.0, z_m=0.0, yaw_rad=0.0))
@example(start=CENTRE, wished=GripperPose(x_m=0.0, y_m=0.0, z_m=0.0, yaw_rad=math.nan))
def test_whatever_is_wished_the_command_stays_inside(start: GripperPose, wished: GripperPose):
    commanded = Workspace(WORKSPACE).clamp_motion(start, wished)

    for value, (low, high) in (
        (commanded.x_m, WORKSPACE.x_m),
        (commanded.y_m, WORKSPACE.y_m),
        (commanded.z_m, WORKSPACE.z_m),
        (commanded.yaw_rad, (-WRIST_LIMIT_RAD, WRIST_LIMIT_RAD)),
    ):
        assert low - ROUNDING_M <= value <= high + ROUNDING_M


@given(pose=ANY_FINITE)
def test_a_transport_ends_inside_with_a_yaw_that_closes_alike(pose: GripperPose):
    commanded = Workspace(WORKSPACE).inside(pose)

    assert WORKSPACE.x_m[0] <= commanded.x_m <= WORKSPACE.x_m[1]
    assert WORKSPACE.y_m[0] <= commanded.y_m <= WORKSPACE.y_m[1]
    assert WORKSPACE.z_m[0] <= commanded.z_m <= WORKSPACE.z_m[1]
    assert abs(commanded.yaw_rad) <= WRIST_LIMIT_RAD
    assert abs(math.sin(commanded.yaw_rad - pose.yaw_rad)) < 1e-4


class Ball:
    """Can be anywhere in a ball, which the workspace need not hold."""

    def __init__(self, centre: tuple[float, float, float], radius_m: float) -> None:
        self.centre, self.radius_m = np.array(centre), radius_m

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        off = np.array([pose.x_m, pose.y_m, pose.z_m]) - self.centre
        shortened = off * min(1.0, self.radius_m / max(float(np.linalg.norm(off)), 1e-12))
        x, y, z = (float(value) for value in self.centre + shortened)
        return GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=pose.yaw_rad)


@given(
    pose=INSIDE,
    centre=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(-0.1, 0.3)),
    radius_m=st.floats(0.01, 0.4),
)
@example(pose=CENTRE, centre=(0.0, 0.0, -0.05), radius_m=0.06)
def test_what_is_in_reach_is_commanded_only_inside(
    pose: GripperPose, centre: tuple[float, float, float], radius_m: float
):
    arm, workspace = Ball(centre, radius_m), Workspace(WORKSPACE)
    try:
        commanded = workspace.within_reach(pose, arm)
    except RobotError:
        nearest = np.clip(centre, *zip(WORKSPACE.x_m, WORKSPACE.y_m, WORKSPACE.z_m, strict=True))
        # Only where box and ball hardly meet.
        assert np.linalg.norm(nearest - centre) > 0.9 * radius_m
        return
    assert arm.nearest_reachable(commanded).as_array() == pytest.approx(commanded.as_array())
    for value, (low, high) in (
        (commanded.x_m, WORKSPACE.x_m),
        (commanded.y_m, WORKSPACE.y_m),
        (commanded.z_m, WORKSPACE.z_m),
    ):
        assert low - OUTSIDE_M <= value <= high + OUTSIDE_M


def test_the_hand_is_shown_to_the_camera_only_inside_the_limits():
    # What of the workspace is in reach is a cap, 15 mm high.
    arm, workspace = Ball((0.0, 0.0, -0.05), 0.065), Workspace(WORKSPACE)
    rng = np.random.default_rng(0)
    poses = [pose.as_array() for pose in viewing_poses(arm, workspace, 0.05, rng)]
    assert len(poses) == VIEWS
    assert (np.array(poses)[:, :3] >= workspace.low[:3] - OUTSIDE_M).all()
    assert (np.array(poses)[:, :3] <= workspace.high[:3] + OUTSIDE_M).all()


@given(pose=INSIDE)
def test_a_transport_to_a_pose_inside_is_left_as_it_is(pose: GripperPose):
    assert Workspace(WORKSPACE).inside(pose) == pose


@pytest.mark.parametrize("measured_z_m", [-0.004, 0.3])
@pytest.mark.parametrize("wished_x_m", [0.05, math.nan])
def test_a_hand_measured_outside_is_brought_back_inside(measured_z_m: float, wished_x_m: float):
    outside = GripperPose(x_m=0.0, y_m=0.0, z_m=measured_z_m, yaw_rad=0.0)
    wished = GripperPose(x_m=wished_x_m, y_m=0.0, z_m=measured_z_m, yaw_rad=0.0)

    commanded = Workspace(WORKSPACE).clamp_motion(outside, wished)

    assert -ROUNDING_M <= commanded.z_m <= 0.14 + ROUNDING_M


def test_a_far_command_is_shortened_along_its_line():
    config = WorkspaceConfig(x_m=(-1, 1), y_m=(-1, 1), z_m=(0, 1), max_step_m=0.1)
    start = GripperPose(x_m=0.0, y_m=0.0, z_m=0.5, yaw_rad=0.0)
    wished = GripperPose(x_m=0.6, y_m=0.8, z_m=0.5, yaw_rad=0.7)

    commanded = Workspace(config).clamp_motion(start, wished)

    np.testing.assert_allclose(commanded.as_array(), [0.06, 0.08, 0.5, 0.7], atol=1e-6)


@given(start=INSIDE, yaw=st.floats(-20, 20, width=32))
def test_the_wrist_takes_the_shortest_way_to_a_yaw_that_closes_alike(
    start: GripperPose, yaw: float
):
    wished = GripperPose(x_m=start.x_m, y_m=start.y_m, z_m=start.z_m, yaw_rad=yaw)

    commanded = Workspace(WORKSPACE).clamp_motion(start, wished)

    assert abs(math.sin(commanded.yaw_rad - yaw)) < 1e-4
    turn = abs(commanded.yaw_rad - start.yaw_rad)
    for other in (commanded.yaw_rad - math.pi, commanded.yaw_rad + math.pi):
        if abs(other) <= WRIST_LIMIT_RAD:
            assert turn <= abs(other - start.yaw_rad) + 1e-4


def test_sampled_yaws_are_taken_modulo_half_a_turn():
    poses = np.array([[0, 0, 0.05, yaw] for yaw in (-2.0, -1.0, 1.0, 2.0, 4.0)], np.float32)

    clamped = Workspace(WORKSPACE).clamp(poses)

    expected = [-2 + math.pi, -1.0, 1.0, 2 - math.pi, 4 - math.pi]
    np.testing.assert_allclose(clamped[:, 3], expected, atol=1e-6)
