"""A simulated camera that is bumped: the shift is found, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protocol.episode import ImageArray
from protocol.hand_eye import HandEyeMap
from robot_agent.attempts.camera_shift import PICTURES, CameraShift
from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.simulated import SimulatedRobot, true_hand_eye_map

SIDE_PX = 64
OPTIONS = {"attempts_per_scene": 4}
LOOK_AT_M = (0.0, 0.0, 0.028)


def options_at(moved_m: float) -> dict[str, object]:
    """Return the options of a robot whose camera was turned by so much of the bin's floor."""
    look_at = [LOOK_AT_M[0] + moved_m, *LOOK_AT_M[1:]]
    return {**OPTIONS, "camera": {"look_at_m": look_at}}


def pictures(moved_m: float = 0.0, *, seed: int = 0, light: float = 0.65) -> list[ImageArray]:
    """Return pictures of a bin that is refilled now and then."""
    options = {**options_at(moved_m), "seed": seed, "light": {"strength": light}}
    robot = SimulatedRobot.open(options)
    camera = SimulatedCamera.open({}, width_px=SIDE_PX, height_px=SIDE_PX, robot=robot)
    found = []
    for _ in range(PICTURES):
        robot.prepare_attempt()
        found.append(camera.capture().image)
    camera.close()
    return found


def true_shift_px(moved_m: float) -> float:
    """Return by how much the bin's floor moves in the picture, on average."""
    floor = np.array([[x, y, 0.0, 1.0] for x in (-0.1, 0.0, 0.1) for y in (-0.07, 0.0, 0.07)])

    def seen(moved: float) -> np.ndarray:
        points = floor @ true_hand_eye_map(options_at(moved)).matrix.T
        return points[:, :2] / points[:, 2:] * SIDE_PX / 2

    return float(np.linalg.norm(seen(moved_m) - seen(0.0), axis=1).mean())


@pytest.fixture(scope="module")
def reference() -> list[ImageArray]:
    return pictures()


def calibration(first: float = 1.0) -> HandEyeMap:
    matrix = np.eye(3, 4, dtype=np.float32)
    matrix[0, 0] = first
    return HandEyeMap(matrix=matrix)


def watch(folder: Path, *batches: list[ImageArray]) -> CameraShift:
    shift = CameraShift(folder, calibration())
    for batch in batches:
        for picture in batch:
            shift.add(picture)
    return shift


def test_nothing_is_said_before_there_are_enough_pictures(
    tmp_path: Path, reference: list[ImageArray]
):
    assert watch(tmp_path, reference[:-1]).pixels is None


def test_other_objects_and_less_light_are_no_shift(tmp_path: Path, reference: list[ImageArray]):
    assert watch(tmp_path, reference, pictures(seed=1, light=0.4)).pixels == pytest.approx(
        0.0, abs=0.3
    )


@pytest.mark.parametrize("moved_m", [0.005, 0.02])
def test_a_camera_that_is_turned_is_found_out_by_how_much(
    tmp_path: Path, reference: list[ImageArray], moved_m: float
):
    found = watch(tmp_path, reference, pictures(moved_m, seed=1)).pixels
    assert found == pytest.approx(true_shift_px(moved_m), abs=0.4)


def test_a_camera_that_sees_something_else_is_as_far_off_as_can_be(
    tmp_path: Path, reference: list[ImageArray]
):
    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    assert watch(tmp_path, reference, [noise] * PICTURES).pixels == SIDE_PX / 2


def test_the_reference_outlives_the_agent_but_not_its_hand_eye_map(
    tmp_path: Path, reference: list[ImageArray]
):
    watch(tmp_path, reference)
    moved = pictures(0.02, seed=1)
    assert watch(tmp_path, moved).pixels > 2
    other = CameraShift(tmp_path, calibration(2.0))
    for picture in moved:
        other.add(picture)
    assert other.pixels == 0.0
