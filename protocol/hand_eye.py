"""The hand-eye map: where a gripper pose appears in one robot's camera image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

LEAST_VOLUME = 1e-6
"""Of the box that three directions of length 1 span: 1 at right angles, 0 in one plane."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandEyeMap:
    """Projective map from base-frame points to normalised image coordinates.

    ``matrix`` is float32[3, 4]. For a point p = (x, y, z, 1) in metres, q = matrix @ p gives
    u = q[0] / q[2] and v = q[1] / q[2], both in [-1, 1] across the whole image: u from the left
    edge of the first column to the right edge of the last, v from top to bottom (the convention
    of ``grid_sample(align_corners=False)``). q[2] is the depth along the optical axis, in metres
    up to scale, positive in front of the camera.
    """

    matrix: NDArray[np.float32]

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points[..., 3] (metres, base frame) to image coordinates [..., 2] in [-1, 1]."""
        matrix = self.matrix.astype(np.float64)
        q = points @ matrix[:, :3].T + matrix[:, 3]
        return np.asarray(q[..., :2] / q[..., 2:3], np.float64)

    def digest(self) -> str:
        """sha256 hex of the little-endian float32 matrix."""
        return hashlib.sha256(np.ascontiguousarray(self.matrix, "<f4").tobytes()).hexdigest()

    def error_m(self, truth: HandEyeMap, points: NDArray[np.floating]) -> float:
        """Mean distance in metres, at constant height, between where the two maps put a pixel.

        For each of points[N, 3] the pixel that this map gives is carried back by ``truth`` onto
        the horizontal plane through the point.
        """
        uv = self.project(points)
        matrix = truth.matrix.astype(np.float64)
        # (M0 - u M2) . p = 0 and (M1 - v M2) . p = 0 are linear in x and y once z is fixed.
        rows = matrix[None, :2, :] - uv[:, :, None] * matrix[None, 2:3, :]
        right = -(rows[:, :, 2] * points[:, 2:3] + rows[:, :, 3])
        xy = np.linalg.solve(rows[:, :, :2], right[:, :, None])[:, :, 0]
        return float(np.linalg.norm(xy - points[:, :2], axis=1).mean())


def has_finite_camera(matrix: Sequence[float]) -> bool:
    """Return whether a map's left three columns have rank 3, whatever the scale of its rows.

    Training divides by how far the camera is. In plain Python: the gateway asks of every record,
    and a numpy call alone takes longer.

    Args:
        matrix: float32[3, 4], row by row.
    """
    a, b, c, _, d, e, f, _, g, h, i, _ = matrix
    volume = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return abs(volume) > LEAST_VOLUME * hypot(a, b, c) * hypot(d, e, f) * hypot(g, h, i)


def pinhole_map(
    *,
    position_m: tuple[float, float, float],
    look_at_m: tuple[float, float, float],
    vertical_fov_deg: float,
    aspect: float = 1.0,
    roll_deg: float = 0.0,
) -> HandEyeMap:
    """Return the map of an ideal pinhole camera that looks at a point with z up.

    Args:
        position_m: optical centre, base frame.
        look_at_m: a point on the optical axis, base frame.
        vertical_fov_deg: full vertical angle of view, degrees.
        aspect: image width divided by height.
        roll_deg: clockwise rotation of the camera about its axis, degrees.
    """
    eye = np.asarray(position_m, np.float64)
    forward = np.asarray(look_at_m, np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    roll = np.deg2rad(roll_deg)
    right, down = (
        np.cos(roll) * right + np.sin(roll) * down,
        -np.sin(roll) * right + np.cos(roll) * down,
    )
    focal = 1.0 / np.tan(np.deg2rad(vertical_fov_deg) / 2)
    rotation = np.stack([right * focal / aspect, down * focal, forward])
    matrix = np.concatenate([rotation, -(rotation @ eye)[:, None]], axis=1)
    return HandEyeMap(matrix=matrix.astype(np.float32))
