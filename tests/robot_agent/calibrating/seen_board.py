"""A marker board as a known pinhole camera would see it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose, ImageArray
from protocol.hand_eye import HandEyeMap
from robot_agent.calibrating.marker_board import MarkerBoard

FINER = 3
"""Pictures are drawn so much finer, then averaged, as a sensor's pixels do."""
SQUARE_PX = 96
TABLE = 150


def transform(pose: GripperPose, turn_rad: tuple[float, float, float] = (0, 0, 0)) -> NDArray:
    """float64[4, 4]: at ``pose``, turned within it by a rotation vector."""
    sin, cos = np.sin(pose.yaw_rad), np.cos(pose.yaw_rad)
    found = np.eye(4)
    found[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    found[:3, :3] = found[:3, :3] @ cv2.Rodrigues(np.array(turn_rad, float))[0]
    found[:3, 3] = (pose.x_m, pose.y_m, pose.z_m)
    return found


def seen(
    board: MarkerBoard,
    to_base: NDArray,
    camera: HandEyeMap,
    size_px: tuple[int, int],
    *,
    noise: float = 2.0,
    seed: int = 0,
) -> ImageArray:
    """uint8[H, W, 3]: the board whose frame is carried to the base frame by to_base[4, 4]."""
    border = SQUARE_PX // 2
    texture = np.pad(board.drawing(SQUARE_PX), border, constant_values=255)
    height, width = texture.shape
    edges_px = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    in_board = (edges_px - np.array([width, height]) / 2) / SQUARE_PX * board.square_m
    corners = np.column_stack([in_board[:, 0], -in_board[:, 1], np.zeros(4)])
    uv = camera.project(corners @ to_base[:3, :3].T + to_base[:3, 3])
    fine = np.array(size_px) * FINER
    # Pixel centres lie at whole numbers for OpenCV, and half a pixel inside their edges.
    target = ((uv + 1) / 2 * fine - 0.5).astype(np.float32)
    warp = cv2.getPerspectiveTransform(edges_px - 0.5, target)
    picture = np.full((*fine[::-1],), TABLE, np.uint8)
    cv2.warpPerspective(
        texture, warp, fine.tolist(), picture, cv2.INTER_AREA, cv2.BORDER_TRANSPARENT
    )
    small = cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA)
    grain = np.random.default_rng(seed).normal(0, noise, (*small.shape, 3))
    return (small[:, :, None] + grain).clip(0, 255).astype(np.uint8)
