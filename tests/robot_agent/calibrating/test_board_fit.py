"""The hand-eye map from a marker board, against a pinhole camera that is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fleet.camera_description import falsify, workspace_points
from protocol.episode import GripperPose
from protocol.errors import HandEyeError
from protocol.hand_eye import HandEyeMap
from robot_agent.calibrating.board_fit import BoardTask, BoardView, fit_board
from robot_agent.calibrating.described_camera import described_map
from robot_agent.calibrating.marker_board import MarkerBoard
from robot_agent.config import CameraDescription
from tests.robot_agent.calibrating.seen_board import seen, transform
from tests.robot_agent.simulated_agent import WORKSPACE

SIZE_PX = (512, 512)
POINTS = workspace_points(WORKSPACE.x_m, WORKSPACE.y_m)
CAMERA = CameraDescription(
    position_m=(-0.34, -0.10, 0.46), look_at_m=(0.01, 0.005, 0.03), vertical_fov_deg=31.0
)
TRUTH = described_map(CAMERA)
GUESS = falsify(CAMERA, np.random.default_rng(5))
CARD = MarkerBoard()
SHEET = MarkerBoard(columns=7, rows=5, square_m=0.025)
SEAT = (0.4, -0.3, 1.2)
ABOVE_TIPS_M = 0.03

Places = tuple[tuple[float, float, float, float], ...]


def lying(places: Places, board: MarkerBoard = SHEET) -> list[BoardView]:
    views = []
    for seed, (x, y, z, yaw_deg) in enumerate(places):
        pose = GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=np.deg2rad(yaw_deg))
        image = seen(board, transform(pose), TRUTH, SIZE_PX, seed=seed)
        views.append(BoardView(sighting=board.find(image), pose=pose))
    return views


def held(count: int, *, board: MarkerBoard = CARD, wobble_m: float = 0.0) -> list[BoardView]:
    rng = np.random.default_rng(3)
    seat = np.eye(4)
    seat[:3, :3] = transform(GripperPose(x_m=0, y_m=0, z_m=0, yaw_rad=0), SEAT)[:3, :3]
    seat[:3, 3] = (0.012, -0.02, ABOVE_TIPS_M)
    views = []
    for seed in range(count):
        x, y, z = rng.uniform((-0.1, -0.07, 0.05), (0.1, 0.07, 0.14))
        pose = GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=rng.uniform(-1.5, 1.5))
        to_base = transform(pose) @ seat
        to_base[:3, 3] += rng.normal(0, wobble_m, 3)
        views.append(
            BoardView(
                sighting=board.find(seen(board, to_base, TRUTH, SIZE_PX, seed=seed)), pose=pose
            )
        )
    return views


def task(board: MarkerBoard, above_tips_m: float | None = None) -> BoardTask:
    return BoardTask(
        board=board,
        description=GUESS,
        workspace=WORKSPACE,
        size_px=SIZE_PX,
        above_tips_m=above_tips_m,
    )


def error_m(found: HandEyeMap) -> float:
    return found.error_m(TRUTH, POINTS)


@pytest.mark.parametrize(
    ("find", "within_m"),
    [
        (lambda: fit_board(lying(((0.0, 0.0, 0.0, 0.0),)), task(SHEET)), 0.0015),
        (
            lambda: fit_board(
                lying(((0.0, 0.0, 0.0, 0.0), (0.03, 0.0, 0.06, 40.0), (-0.02, 0.02, 0.1, 90.0))),
                task(SHEET),
            ),
            0.0005,
        ),
        (lambda: fit_board(held(24), task(CARD, ABOVE_TIPS_M)), 0.0005),
    ],
    ids=["one place", "three places", "held"],
)
def test_the_map_of_a_known_camera_is_found(find: Callable, within_m: float):
    assert described_map(GUESS).error_m(TRUTH, POINTS) > 0.005
    found = find()
    off_m = error_m(found.hand_eye_map)
    print(
        f"{off_m * 1e3:.2f} mm off, says {found.uncertainty_m * 1e3:.2f} mm, "
        f"{found.residual_px:.2f} px over {found.views} views"
    )
    assert found.residual_px < 0.5
    assert off_m < within_m
    assert off_m < 4 * found.uncertainty_m + 1e-4


def test_a_hand_that_is_a_millimetre_off_in_every_direction_costs_about_as_much():
    found = fit_board(held(32, wobble_m=0.001), task(CARD, ABOVE_TIPS_M))
    off_m = error_m(found.hand_eye_map)
    print(
        f"{off_m * 1e3:.2f} mm off, says {found.uncertainty_m * 1e3:.2f} mm, "
        f"{found.residual_px:.2f} px"
    )
    assert found.residual_px > 0.5
    assert off_m < 0.0015
    assert off_m < 3 * found.uncertainty_m


def test_a_board_out_of_view_is_an_error_that_says_what_to_look_at():
    with pytest.raises(HandEyeError, match="0 of 1 pictures show 6 corners or more, 1 are needed"):
        fit_board(lying(((0.9, 0.0, 0.0, 0.0),)), task(SHEET))


def test_a_board_in_the_hand_is_to_be_seen_from_several_poses():
    with pytest.raises(HandEyeError, match="8 are needed"):
        fit_board(held(7), task(CARD, ABOVE_TIPS_M))


def test_a_board_that_does_not_lie_where_it_is_said_to_is_refused():
    places: Places = ((0.0, 0.0, 0.0, 0.0), (0.03, 0.0, 0.06, 40.0), (-0.02, 0.02, 0.1, 90.0))
    views = lying(places)
    shifted = GripperPose(x_m=0.05, y_m=0.0, z_m=0.06, yaw_rad=np.deg2rad(40.0))
    views[1] = BoardView(sighting=views[1].sighting, pose=shifted)
    with pytest.raises(HandEyeError, match="no camera explains its corners better"):
        fit_board(views, task(SHEET))


def test_a_few_corners_of_a_small_board_do_not_make_a_map():
    views = lying(((0.0, 0.0, 0.0, 0.0),), MarkerBoard(columns=4, rows=3, square_m=0.012))
    with pytest.raises(HandEyeError, match=r"the map may be off by \d.*at more places"):
        fit_board(views, task(MarkerBoard(columns=4, rows=3, square_m=0.012)))
