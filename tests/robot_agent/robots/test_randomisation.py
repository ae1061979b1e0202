"""Randomised robots differ, stay usable, and know their own cameras."""

import itertools
import math

import numpy as np
import pytest

from robot_agent.arms.arm_places import ARM_PLACES
from robot_agent.robots.simulated import SimulatedRobot, randomised_options, true_hand_eye_map
from robot_agent.robots.simulated.gantry import PARK_POSITION
from robot_agent.robots.simulated.hand import GRIPPER
from robot_agent.robots.simulated.options import parse_options
from robot_agent.robots.simulated.scene import BIN_HALF_M, WORKSPACE_M

SEEDS = range(100)


def corners(box: np.ndarray) -> np.ndarray:
    """The eight corners of a box float[2, 3]."""
    return np.array(list(itertools.product(*np.asarray(box).T)))


def test_every_drawn_robot_has_valid_options_and_its_own_camera():
    drawn = [randomised_options(seed) for seed in SEEDS]
    cameras = {parse_options(options).camera for options in drawn}
    assert len(cameras) == len(drawn)


def test_the_same_seed_draws_the_same_robot():
    assert randomised_options(11) == randomised_options(11)


def test_camera_and_wear_alone_leave_the_rest_nominal():
    assert set(randomised_options(11, "camera-and-wear")) == {
        "seed", "camera", "gripper_wear", "opening_drift_m",
    }  # fmt: skip


def test_bin_floor_and_grasping_poses_stay_in_view_of_every_camera():
    (x_low, x_high), (y_low, y_high), _ = WORKSPACE_M
    length, width = BIN_HALF_M
    points = np.concatenate(
        [
            corners([[-length, -width, 0.0], [length, width, 0.0]]),
            corners([[x_low, y_low, 0.0], [x_high, y_high, 0.05]]),
        ]
    )
    for seed in SEEDS:
        image_points = true_hand_eye_map(randomised_options(seed)).project(points)
        assert np.abs(image_points).max() < 1.0


PARKING = {"": PARK_POSITION[:3]} | {
    arm: np.array([place.parking.x_m, place.parking.y_m, place.parking.z_m])
    for arm, place in ARM_PLACES.items()
}
"""By arm; "" is the gantry, whose hand keeps its yaw."""


@pytest.mark.parametrize("arm", PARKING)
def test_the_parked_hand_and_what_hangs_from_it_are_out_of_every_cameras_view(arm: str):
    hanging = np.array([[-0.01, -0.01, -0.10], [0.01, 0.01, 0.0]])
    boxes = [*GRIPPER.boxes(0.0), *GRIPPER.boxes(GRIPPER.max_opening_m), hanging]
    points = np.concatenate([corners(box) for box in boxes])
    yaws = [0.0] if arm else np.linspace(0, math.pi, 5)
    for seed, yaw in itertools.product(SEEDS[:25], yaws):
        turn = np.array(
            [
                [math.cos(yaw), -math.sin(yaw), 0.0],
                [math.sin(yaw), math.cos(yaw), 0.0],
                [0.0, 0.0, 1.0],
            ]
        )
        hand_eye_map = true_hand_eye_map(randomised_options(seed))
        placed = points @ turn.T + PARKING[arm]
        depth = placed @ hand_eye_map.matrix[2, :3] + hand_eye_map.matrix[2, 3]
        inside = (np.abs(hand_eye_map.project(placed)) < 1.0).all(axis=1)
        assert not (inside & (depth > 0)).any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_drawn_robot_opens_and_moves(seed: int):
    robot = SimulatedRobot.open(randomised_options(seed))
    robot.prepare_attempt()
    assert robot.close_gripper() < 0.002
