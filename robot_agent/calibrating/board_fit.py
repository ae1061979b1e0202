"""The hand-eye map from a marker board that lies at a known place or is held by the hand.

A pinhole camera is fitted to where the board's corners appear. A board in the hand may sit in it
anyhow: how is found as well, except its height over the finger tips. A hand that stays vertical
cannot tell a higher camera from a lower board.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import HandEyeError
from protocol.hand_eye import HandEyeMap
from robot_agent.calibrating.described_camera import camera_matrix, described_parameters
from robot_agent.calibrating.least_squares import Fit, Vector, fit
from robot_agent.calibrating.marker_board import MarkerBoard, Sighting
from robot_agent.config import CameraDescription, WorkspaceConfig

logger = logging.getLogger(__name__)

FEWEST_CORNERS = 6
"""A picture that shows fewer does not count."""
FEWEST_HELD_VIEWS = 8
LARGEST_RMS_PX, LARGEST_HELD_RMS_PX = 1.5, 8.0
"""A camera that explains the corners no better than this is not what was seen. A hand is seldom
quite where it believes to be: at two pixels a millimetre, the latter is four millimetres."""
LARGEST_UNCERTAINTY_M = 0.005
"""A map that may be further off than this, by its own reckoning, is refused."""
OFFSET_SD = 0.1
"""The optical axis is expected this near to the middle, in half pictures; corners outvote it."""
CAMERA, OFFSETS, SEAT = slice(0, 7), slice(7, 9), slice(9, 14)
"""Parameters: see camera_matrix; the optical axis in the picture; x, y and rotation of the board
in the hand."""
DEPTH_M = 0.02
DRAWS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardView:
    """A picture of the board, and where it was."""

    sighting: Sighting
    pose: GripperPose
    """Of the hand that holds the board, or of the board itself where it lies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardMap:
    """A hand-eye map found by a board, and how good it is."""

    hand_eye_map: HandEyeMap
    residual_px: float
    """Root mean square distance between corners and where the map puts them, in pixels of the
    pictures that were measured."""
    uncertainty_m: float
    """How far the map may be off in the workspace, by the spread of its fit: one standard
    deviation. A wrongly measured board is not in it."""
    views: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardTask:
    """What the fit knows beside the views."""

    board: MarkerBoard
    description: CameraDescription
    workspace: WorkspaceConfig
    size_px: tuple[int, int]
    """Width and height of the pictures that were measured."""
    above_tips_m: float | None = None
    """Height of a held board's middle above the finger tips; None for a board that lies."""


def fit_board(views: Sequence[BoardView], task: BoardTask) -> BoardMap:
    """Return the hand-eye map that explains the views best.

    Raises:
        HandEyeError: too few views show enough of the board, no pinhole camera explains them, or
            they do not determine it.
    """
    usable = [view for view in views if len(view.sighting) >= FEWEST_CORNERS]
    fewest = 1 if task.above_tips_m is None else FEWEST_HELD_VIEWS
    if len(usable) < fewest:
        raise HandEyeError(
            f"marker board: {len(usable)} of {len(views)} pictures show {FEWEST_CORNERS} corners "
            f"or more, {fewest} are needed; is it in view, lit and flat, and as large as said?"
        )
    projection = _Projection(usable, task)
    fits = [fit(projection.residuals, start) for start in projection.starts()]
    best = min(fits, key=lambda one: float(one.residuals @ one.residuals))
    found = _judged(best, projection, task, len(usable))
    logger.info("marker board: %.2f px over %d views", found.residual_px, found.views)
    return found


def _judged(best: Fit, projection: _Projection, task: BoardTask, views: int) -> BoardMap:
    # Each corner has two coordinates; the priors of the optical axis come last.
    pixels = projection.residuals(best.parameters)[:-2].reshape(-1, 2)
    rms_px = float(np.sqrt((pixels**2).sum(axis=1).mean()))
    limit_px = LARGEST_RMS_PX if task.above_tips_m is None else LARGEST_HELD_RMS_PX
    if not rms_px <= limit_px:
        raise HandEyeError(
            f"marker board: no camera explains its corners better than {rms_px:.1f} px "
            f"(limit {limit_px:g} px): are its squares {task.board.square_m * 1e3:g} mm, is it "
            "flat and firm, and where it is said to be?"
        )
    hand_eye_map = projection.map_of(best.parameters)
    uncertainty_m = _uncertainty_m(best, projection, hand_eye_map, task)
    if not uncertainty_m <= LARGEST_UNCERTAINTY_M:
        raise HandEyeError(
            f"marker board: the map may be off by {uncertainty_m * 1e3:.1f} mm (limit "
            f"{LARGEST_UNCERTAINTY_M * 1e3:g} mm): show the board at more places and heights"
        )
    return BoardMap(
        hand_eye_map=hand_eye_map, residual_px=rms_px, uncertainty_m=uncertainty_m, views=views
    )


def _uncertainty_m(best: Fit, projection: _Projection, truth: HandEyeMap, task: BoardTask) -> float:
    """Draw other cameras that would do as well; return how far apart their maps are."""
    workspace = task.workspace
    axes = (workspace.x_m, workspace.y_m, workspace.z_m)
    points = np.stack(np.meshgrid(*(np.linspace(low, high, 3) for low, high in axes)), axis=-1)
    # Corners of one view err together where the hand, not the picture, is what errs.
    together = 1.0 if task.above_tips_m is None else projection.corners_per_view
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal(
        best.parameters, best.covariance * together, DRAWS, method="eigh"
    )
    errors = [projection.map_of(draw).error_m(truth, points.reshape(-1, 3)) for draw in draws]
    return float(np.sqrt(np.mean(np.square(errors))))


class _Projection:
    """Where a camera and a seat in the hand would put the corners, against where they are."""

    def __init__(self, views: Sequence[BoardView], task: BoardTask) -> None:
        self._views = views
        self._task = task
        self._aspect = task.size_px[0] / task.size_px[1]
        self._half_px = np.array(task.size_px) / 2
        self._carriers = [_upright(view.pose) for view in views]
        self.corners_per_view = float(np.mean([len(view.sighting) for view in views]))

    def starts(self) -> list[Vector]:
        """Return where to begin: the described camera, with every seat that a view suggests."""
        camera = described_parameters(self._task.description)
        lying = np.concatenate([camera, np.zeros(2)])
        if self._task.above_tips_m is None:
            return [lying]
        chosen = sorted(range(len(self._views)), key=lambda i: -len(self._views[i].sighting))
        return [np.concatenate([lying, self._seat_in(i, camera)]) for i in chosen[:4]]

    def map_of(self, parameters: Vector) -> HandEyeMap:
        return HandEyeMap(matrix=self._matrix(parameters).astype(np.float32))

    def residuals(self, parameters: Vector) -> Vector:
        """Return float64[2 x corners + 2]: pixels, then how far the axis is from the middle."""
        matrix, seat = self._matrix(parameters), self._seat(parameters)
        off = []
        for carrier, view in zip(self._carriers, self._views, strict=True):
            to_base = carrier @ seat
            points = self._task.board.corners_m[view.sighting.ids]
            points = points @ to_base[:3, :3].T + to_base[:3, 3]
            q = points @ matrix[:, :3].T + matrix[:, 3]
            uv = q[:, :2] / np.maximum(q[:, 2:3], DEPTH_M)
            off.append(((uv - view.sighting.uv) * self._half_px).ravel())
        return np.concatenate([*off, parameters[OFFSETS] / OFFSET_SD])

    def _matrix(self, parameters: Vector) -> NDArray[np.float64]:
        matrix = camera_matrix(parameters[CAMERA], self._aspect)
        matrix[:2] += parameters[OFFSETS, None] * matrix[2]
        return matrix

    def _seat(self, parameters: Vector) -> NDArray[np.float64]:
        """Return float64[4, 4]: from the board's frame to that of what carries it."""
        seat = np.eye(4)
        if self._task.above_tips_m is not None:
            x, y, *turn = parameters[SEAT]
            seat[:3, :3] = cv2.Rodrigues(np.array(turn))[0]
            seat[:3, 3] = (x, y, self._task.above_tips_m)
        return seat

    def _seat_in(self, index: int, camera: Vector) -> Vector:
        """Return float64[5]: the seat that one view tells if the camera is as described."""
        matrix = camera_matrix(camera, self._aspect)
        focal = np.linalg.norm(matrix[:, :3], axis=1)
        rotation = matrix[:, :3] / focal[:, None]
        view = self._views[index]
        _, turn, shift = cv2.solvePnP(
            self._task.board.corners_m[view.sighting.ids],
            view.sighting.uv,
            np.diag(focal),
            None,
            flags=cv2.SOLVEPNP_IPPE,
        )
        in_camera = np.eye(4)
        in_camera[:3, :3], in_camera[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
        base_to_camera = np.eye(4)
        base_to_camera[:3, :3] = rotation
        base_to_camera[:3, 3] = matrix[:, 3] / focal
        seat = np.linalg.inv(base_to_camera @ self._carriers[index]) @ in_camera
        return np.concatenate([seat[:2, 3], cv2.Rodrigues(seat[:3, :3])[0].ravel()])


def _upright(pose: GripperPose) -> NDArray[np.float64]:
    """Return float64[4, 4]: from the frame of what stands or lies at ``pose`` to the base frame."""
    sin, cos = np.sin(pose.yaw_rad), np.cos(pose.yaw_rad)
    return np.array(
        [
            [cos, -sin, 0.0, pose.x_m],
            [sin, cos, 0.0, pose.y_m],
            [0.0, 0.0, 1.0, pose.z_m],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
