"""The simulated camera: pictures that agree with the hand-eye map, on any machine."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from protocol.episode import GripperPose, ImageArray
from protocol.errors import ConfigurationError
from protocol.hand_eye import HandEyeMap
from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.simulated import SimulatedRobot, randomised_options, true_hand_eye_map

NO_SHADOW = {"light": {"strength": 0.0, "ambient": 1.0}, "image_noise": 0.0}


def look(robot: SimulatedRobot, side_px: int = 64, renderer: str = "rays") -> ImageArray:
    camera = SimulatedCamera.open(
        {"renderer": renderer}, width_px=side_px, height_px=side_px, robot=robot
    )
    try:
        return camera.capture().image
    finally:
        camera.close()


def silhouette(
    hand_eye_map: HandEyeMap, boxes: np.ndarray, pose: GripperPose, side_px: int
) -> np.ndarray:
    """bool[H, W]: pixels that boxes[K, 2, 3] in the gripper frame cover, by the map alone."""
    turn = np.array(
        [
            [np.cos(pose.yaw_rad), -np.sin(pose.yaw_rad), 0.0],
            [np.sin(pose.yaw_rad), np.cos(pose.yaw_rad), 0.0],
            [0.0, 0.0, 1.0],
        ]
    )
    fine = 8
    mask = np.zeros((side_px * fine, side_px * fine), np.uint8)
    for box in boxes:
        corners = np.array(list(itertools.product(*box.T))) @ turn.T
        uv = hand_eye_map.project(corners + np.array([pose.x_m, pose.y_m, pose.z_m]))
        pixels = ((uv + 1) / 2 * side_px * fine - 0.5).astype(np.float32)
        cv2.fillConvexPoly(mask, cv2.convexHull(pixels).astype(np.int32), 1)
    return mask[fine // 2 :: fine, fine // 2 :: fine] > 0


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_data_sheet_and_true_map_together_cover_exactly_the_pixels_that_the_hand_hides(seed: int):
    options = {**randomised_options(seed), **NO_SHADOW, "colour_jitter": 0.0}
    robot = SimulatedRobot.open(options)
    without = look(robot, 256).astype(int)
    robot.open_gripper()
    state = robot.move_to(GripperPose(x_m=0.03, y_m=0.02, z_m=0.06, yaw_rad=0.4 * seed))
    changed = np.abs(look(robot, 256).astype(int) - without).max(axis=2) > 0
    boxes = robot.gripper.boxes(state.opening_m)
    expected = silhouette(true_hand_eye_map(options), boxes, state.pose, 256)
    overlap = (changed & expected).sum() / (changed | expected).sum()
    assert overlap > 0.97
    centres = [np.argwhere(mask).mean(axis=0) for mask in (changed, expected)]
    assert np.linalg.norm(centres[0] - centres[1]) < 0.5


def test_the_map_of_a_wide_picture_takes_its_aspect_into_account():
    options = {"seed": 1, **NO_SHADOW}
    robot = SimulatedRobot.open(options)
    camera = SimulatedCamera.open({"renderer": "rays"}, width_px=128, height_px=64, robot=robot)
    without = camera.capture().image.astype(int)
    state = robot.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.05, yaw_rad=0.0))
    image = camera.capture().image
    changed = np.abs(image.astype(int) - without).max(axis=2) > 0
    assert image.shape == (64, 128, 3)
    tip = true_hand_eye_map(options, aspect=2.0).project(
        np.array([0.0, state.opening_m / 2 + 0.0035, 0.05])
    )
    column, row = (tip + 1) / 2 * [128, 64]
    assert changed[int(row) - 2 : int(row) + 1, int(column) - 1 : int(column) + 2].any()


@pytest.mark.parametrize("side_px", [64, 96, 128])
def test_pictures_have_the_size_asked_for_and_show_something(side_px: int):
    image = look(SimulatedRobot.open({"seed": 1}), side_px)
    assert image.shape == (side_px, side_px, 3)
    assert image.dtype == np.uint8
    assert image.std() > 20


def test_the_parked_hand_is_not_in_the_picture():
    robot = SimulatedRobot.open({"seed": 1, **NO_SHADOW})
    parked = look(robot)
    robot.open_gripper()
    robot.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.20, yaw_rad=0.3))
    assert (look(robot) != parked).any()
    robot.retreat()
    np.testing.assert_array_equal(look(robot), parked)


def test_the_lamp_throws_a_shadow_of_the_hand_into_the_bin():
    def darkened(light: dict) -> int:
        robot = SimulatedRobot.open({"seed": 1, "light": light, "image_noise": 0.0})
        before = look(robot).astype(int)
        state = robot.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.10, yaw_rad=0.3))
        after = look(robot).astype(int)
        boxes = robot.gripper.boxes(state.opening_m)
        hand = silhouette(true_hand_eye_map({}), boxes, state.pose, 64)
        hand = cv2.dilate(hand.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return int(((after - before).max(axis=2) < -10)[~hand].sum())

    assert darkened({}) > 20
    assert darkened({"strength": 0.0, "ambient": 1.0}) == 0


def test_pictures_repeat_with_the_seed_and_carry_the_noise_that_was_asked_for():
    first, second = (look(SimulatedRobot.open({"seed": 5, "image_noise": 2.0})) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    clean = look(SimulatedRobot.open({"seed": 5, "image_noise": 0.0}))
    assert 1.0 < (first.astype(float) - clean).std() < 3.0


def test_a_refilled_bin_is_seen_by_the_same_camera():
    robot = SimulatedRobot.open({"seed": 5, "attempts_per_scene": 1, "image_noise": 0.0})
    camera = SimulatedCamera.open({"renderer": "rays"}, width_px=64, height_px=64, robot=robot)
    robot.prepare_attempt()
    before = camera.capture().image
    robot.prepare_attempt()
    after = camera.capture().image
    assert (before != after).any()
    np.testing.assert_array_equal(after, look(robot))


class RealRobot:
    """Any robot that is not simulated."""


@pytest.mark.parametrize(
    ("options", "size", "make_robot", "message"),
    [
        ({"renderer": "rasy"}, 64, SimulatedRobot.open, "renderer"),
        ({"rendrer": "rays"}, 64, SimulatedRobot.open, "did you mean 'renderer'"),
        ({}, 4, SimulatedRobot.open, "4x4"),
        ({}, 4096, SimulatedRobot.open, "4096x4096"),
        ({}, 64, lambda _: RealRobot(), "RealRobot"),
    ],
)
def test_a_camera_that_cannot_be_had_is_refused_with_the_reason(
    options: dict, size: int, make_robot: Callable, message: str
):
    with pytest.raises(ConfigurationError, match=message):
        SimulatedCamera.open(options, width_px=size, height_px=size, robot=make_robot({}))


PICTURE_WITHOUT_GL = """
from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.simulated import SimulatedRobot
robot = SimulatedRobot.open({"seed": 1})
camera = SimulatedCamera.open({}, width_px=64, height_px=64, robot=robot)
assert camera.capture().image.std() > 20
assert camera.renderer == "rays", camera.renderer
"""


def test_without_any_gl_the_automatic_choice_is_to_cast_rays():
    environment = {"MUJOCO_GL": "disable", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", PICTURE_WITHOUT_GL],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


PICTURE_BY_GL = """
import sys
import numpy as np
from protocol.errors import ConfigurationError
from protocol.episode import GripperPose
from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.simulated import SimulatedRobot
robot = SimulatedRobot.open({"seed": 1, "image_noise": 0.0, "attempts_per_scene": 1})
try:
    gl = SimulatedCamera.open({"renderer": "gl"}, width_px=64, height_px=64, robot=robot)
except ConfigurationError as error:
    sys.exit(f"no GL: {error}")
rays = SimulatedCamera.open({"renderer": "rays"}, width_px=64, height_px=64, robot=robot)
for _ in range(2):
    robot.prepare_attempt()
    robot.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.06, yaw_rad=0.3))
    first, second = (camera.capture().image.astype(float) for camera in (gl, rays))
    correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert correlation > 0.95, correlation
    assert abs(first.mean() - second.mean()) < 8, (first.mean(), second.mean())
gl.close()
gl.close()
"""


def test_both_renderers_show_the_same_scene_also_after_a_refill():
    done = subprocess.run(
        [sys.executable, "-c", PICTURE_BY_GL],
        env={**os.environ, "MUJOCO_GL": "egl"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if "no GL" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
