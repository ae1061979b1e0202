"""The pinhole camera that a robot.toml describes, roughly: where every calibration starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.hand_eye import HandEyeMap
from robot_agent.config import CameraDescription


def described_map(description: CameraDescription, aspect: float = 1.0) -> HandEyeMap:
    """Return the map of the camera exactly as it is described; aspect is width by height."""
    matrix = camera_matrix(described_parameters(description), aspect)
    return HandEyeMap(matrix=matrix.astype(np.float32))


def camera_matrix(parameters: NDArray[np.float64], aspect: float) -> NDArray[np.float64]:
    """Return float64[3, 4] (see protocol.hand_eye) of a square-pixelled pinhole camera.

    Args:
        parameters: position x, y, z (m), pan, tilt (down is negative), roll (rad), log focal
            length (half image heights).
        aspect: width of the picture divided by its height.
    """
    x, y, z, pan, tilt, roll, log_focal = parameters
    sin_p, cos_p, sin_t, cos_t = np.sin(pan), np.cos(pan), np.sin(tilt), np.cos(tilt)
    forward = np.array([cos_p * cos_t, sin_p * cos_t, sin_t])
    right = np.array([sin_p, -cos_p, 0.0])
    down = np.array([cos_p * sin_t, sin_p * sin_t, -cos_t])
    sin_r, cos_r, focal = np.sin(roll), np.cos(roll), np.exp(log_focal)
    rows = np.stack(
        [
            (cos_r * right + sin_r * down) * (focal / aspect),
            (cos_r * down - sin_r * right) * focal,
            forward,
        ]
    )
    return np.concatenate([rows, -(rows @ np.array([x, y, z]))[:, None]], axis=1)


def described_parameters(description: CameraDescription) -> NDArray[np.float64]:
    """Return the camera's parameters, float64[7], as ``camera_matrix`` takes them."""
    position = np.array(description.position_m)
    dx, dy, dz = np.array(description.look_at_m) - position
    pan, tilt = np.arctan2(dy, dx), np.arctan2(dz, np.hypot(dx, dy))
    focal = -np.log(np.tan(np.deg2rad(description.vertical_fov_deg) / 2))
    return np.array([*position, pan, tilt, 0.0, focal])
