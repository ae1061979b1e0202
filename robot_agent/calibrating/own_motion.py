"""A robot finds its hand-eye map by its own motion, without a ruler.

The hand goes to poses that it knows, the camera sees which pixels change against the empty bin,
and a pinhole camera is fitted so that the gripper's data-sheet shape, projected from those poses,
covers the changed pixels and no others. Shadows count neither for nor against. A rough
description of the camera is where the fit starts.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose, ImageArray
from protocol.errors import HandEyeError
from protocol.hand_eye import HandEyeMap
from robot_agent.calibrating.calibration import Calibration, keep, saved_calibration
from robot_agent.calibrating.described_camera import camera_matrix, described_parameters
from robot_agent.cameras.base import Camera
from robot_agent.config import AgentConfig, CameraDescription
from robot_agent.robots.base import (
    GripperModel,
    ReachLimitedRobot,
    Robot,
    RobotState,
    TurningRobot,
)
from robot_agent.safety.workspace import Workspace

logger = logging.getLogger(__name__)

VIEWS = 32
"""Poses that the hand visits."""
LOWEST_VIEW_M = 0.05
"""The fingers stay above what lies in the bin."""
FINENESS = 2
"""Silhouettes are drawn this much finer than the picture's pixels."""
CHANGED_LEVELS = 18.0
"""A pixel that differs by this much, of 255, has changed."""
SHADOW_RATIOS = (0.35, 0.95)
"""A shadow leaves this share of the light, about the same share in every colour."""
SHADOW_SPREAD = 0.12
"""How much those shares may differ between colours."""
ROUNDS = ((200, 20, 1.0, 4), (100, 14, 0.3, 2), (80, 10, 0.1, 1))
"""Of the search: candidates, iterations, share of FIRST_SD to start with, every n-th view."""
FIRST_SD = np.array([0.02, 0.02, 0.02, 0.05, 0.05, 0.03, 0.10])
"""How far off a description may be: position (m), pan, tilt, roll (rad), log focal length."""
LOWEST_SCORE = 0.5
"""Below this the silhouettes do not agree with any camera: the map is not to be trusted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The hand at a known pose, and which pixels it changed."""

    pose: GripperPose
    opening_m: float
    evidence: NDArray[np.float32]
    """float32[H, W]: +1 changed, -1 unchanged, 0 perhaps a shadow."""


def find_hand_eye_map(
    robot: Robot, camera: Camera, config: AgentConfig, rng: np.random.Generator
) -> Calibration:
    """Move the hand through the camera's view and fit the camera to what was seen.

    Takes 32 short motions above the bin. The hand ends out of view with the gripper open.

    Raises:
        RobotError: the robot or the camera failed on the way.
        HandEyeError: not a single pixel changed: camera and robot do not look at the same bin.
    """
    views = _collect(robot, camera, Workspace(config.workspace), rng)
    changed = sum(int((view.evidence > 0).sum()) for view in views)
    if changed < VIEWS:
        raise HandEyeError(
            f"{config.name}: {changed} pixels changed over {VIEWS} motions of the hand; "
            "the camera does not see the gripper: check where it points"
        )
    return fit_camera(views, robot.gripper, config.camera_description, rng)


def fit_camera(
    views: list[View],
    gripper: GripperModel,
    description: CameraDescription,
    rng: np.random.Generator,
) -> Calibration:
    """Fit a pinhole camera to silhouettes by cross-entropy search, wide first, then fine."""
    height, width = views[0].evidence.shape
    aspect = width / height
    start = best = described_parameters(description)
    best_score = 0.0
    for candidates, iterations, share, every in ROUNDS:
        silhouettes = _Silhouettes(views[::every], gripper)
        best_score = silhouettes.score(camera_matrix(best, aspect))
        # A full covariance: distance and focal length, or pan and position, trade off narrowly.
        mean, spread = best, np.diag((FIRST_SD * share) ** 2)
        for _ in range(iterations):
            samples = rng.multivariate_normal(mean, spread, candidates)
            scores = np.array([silhouettes.score(camera_matrix(s, aspect)) for s in samples])
            elites = samples[np.argsort(-scores)[: candidates // 5]]
            mean = elites.mean(axis=0)
            spread = np.cov(elites.T) + np.diag((FIRST_SD * 2e-3) ** 2)
            if scores.max() > best_score:
                best, best_score = elites[0], float(scores.max())
    trusted = best_score >= LOWEST_SCORE
    if not trusted:
        logger.warning("hand-eye map cannot be right: silhouettes agree to %.2f only", best_score)
    matrix = camera_matrix(best if trusted else start, aspect)
    return Calibration(
        hand_eye_map=HandEyeMap(matrix=matrix.astype(np.float32)),
        residual=1.0 - best_score,
        trusted=trusted,
    )


def viewing_poses(
    robot: Robot | ReachLimitedRobot,
    workspace: Workspace,
    lowest_m: float,
    rng: np.random.Generator,
) -> Iterator[GripperPose]:
    """Yield poses for the hand to be seen at, all over the workspace, at ``lowest_m`` or higher.

    What is in an arm's reach may depend on where it is: take one, go there, take the next.

    Raises:
        RobotError: reach and workspace do not meet.
    """
    low, high = workspace.low.copy(), workspace.high
    low[2] = max(low[2], min(lowest_m, high[2]))
    for _ in range(VIEWS):
        x, y, z, yaw = (float(value) for value in rng.uniform(low, high))
        drawn = GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=yaw)
        yield workspace.within_reach(workspace.inside(drawn), robot)


def _collect(
    robot: Robot, camera: Camera, workspace: Workspace, rng: np.random.Generator
) -> list[View]:
    robot.open_gripper()
    robot.retreat()
    robot.prepare_attempt()
    pictures = [camera.capture().image]
    states = []
    for index, pose in enumerate(viewing_poses(robot, workspace, LOWEST_VIEW_M, rng)):
        robot.move_to(pose)
        if index == VIEWS // 2:
            robot.close_gripper()
        states.append(_hand_state(robot))
        pictures.append(camera.capture().image)
    robot.retreat()
    robot.open_gripper()
    # The hand covers a pixel in few pictures: the median is the bin without it, also where an
    # object was nudged on the way.
    empty = np.median(np.stack(pictures), axis=0).astype(np.uint8)
    return [
        View(pose=s.pose, opening_m=s.opening_m, evidence=_evidence(empty, picture))
        for s, picture in zip(states, pictures[1:], strict=True)
    ]


def _hand_state(robot: Robot) -> RobotState:
    """Return the robot's state with the hand's own yaw: not every hand looks the same half a turn
    further, though it grasps alike.
    """
    state = robot.state()
    if not isinstance(robot, TurningRobot):
        return state
    pose = dataclasses.replace(state.pose, yaw_rad=robot.hand_yaw_rad())
    return dataclasses.replace(state, pose=pose)


def _evidence(empty: ImageArray, image: ImageArray) -> NDArray[np.float32]:
    """Return +1 where the hand is, -1 where it is not, 0 where its shadow may be."""
    before, now = empty.astype(np.float32), image.astype(np.float32)
    changed = np.abs(now - before).max(axis=2) >= CHANGED_LEVELS
    ratio = (now + 2.0) / (before + 2.0)
    dimmed = (ratio > SHADOW_RATIOS[0]) & (ratio < SHADOW_RATIOS[1])
    shadow = dimmed.all(axis=2) & (ratio.max(axis=2) - ratio.min(axis=2) < SHADOW_SPREAD)
    return np.where(changed, np.where(shadow, 0.0, 1.0), -1.0).astype(np.float32)


class _Silhouettes:
    """Scores a camera by how well the projected gripper covers the evidence."""

    def __init__(self, views: list[View], gripper: GripperModel) -> None:
        height, width = views[0].evidence.shape
        self._size = (height * FINENESS, width * FINENESS)
        self._evidence = np.stack(
            [
                cv2.resize(view.evidence, self._size[::-1], interpolation=cv2.INTER_NEAREST)
                for view in views
            ]
        )
        self._positive = max(1.0, float((self._evidence > 0).sum()))
        self._corners = np.stack([_corners(view, gripper) for view in views])
        self._canvas = np.zeros(self._evidence.shape, np.uint8)

    def score(self, matrix: NDArray[np.float64]) -> float:
        """Return explained less wrongly explained pixels as a share of those to explain."""
        q = self._corners @ matrix[:, :3].T + matrix[:, 3]
        if (q[..., 2] < 0.02).any():
            return -1.0
        height, width = self._size
        scale = np.array([width, height]) / 2
        pixels = (q[..., :2] / q[..., 2:3] + 1.0) * scale - 0.5
        fixed = np.clip(np.round(pixels * 16), -(2**20), 2**20).astype(np.int32)
        self._canvas[:] = 0
        for canvas, boxes in zip(self._canvas, fixed, strict=True):
            for box in boxes:
                cv2.fillConvexPoly(canvas, cv2.convexHull(box), 1, shift=4)
        return float(self._evidence[self._canvas > 0].sum()) / self._positive


def _corners(view: View, gripper: GripperModel) -> NDArray[np.float64]:
    """Return float64[K, 8, 3]: the corners of the gripper's boxes in the base frame."""
    boxes = gripper.boxes(view.opening_m)
    choice = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
    corners = np.take_along_axis(
        boxes[:, :, None, :].repeat(8, axis=2), choice[None, None], axis=1
    )[:, 0]
    sin, cos = np.sin(view.pose.yaw_rad), np.cos(view.pose.yaw_rad)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    origin = np.array([view.pose.x_m, view.pose.y_m, view.pose.z_m])
    return np.asarray(corners @ turn.T + origin, np.float64)


def load_or_find(
    robot: Robot, camera: Camera, config: AgentConfig, rng: np.random.Generator
) -> Calibration:
    """Return the saved calibration, or find one and save it in the state folder.

    It is found anew when anything that the robot or its camera is opened with has changed, except
    what only fills the bin of a simulated robot.

    Raises:
        RobotError: the robot or the camera failed on the way.
        HandEyeError: the camera does not see the gripper.
        ConfigurationError: the calibration cannot be written.
    """
    saved = saved_calibration(config)
    if saved is not None:
        return saved
    found = find_hand_eye_map(robot, camera, config, rng)
    if not found.trusted:
        # Not kept: the next start tries again, perhaps with the camera put right.
        return found
    keep(found, config)
    return found
