"""Where a commanded grasp lies in the picture, and from which side the camera sees it.

The patch of workspace that the network looks at is horizontal, so patch to picture is one
homography per grasp, made from the hand-eye map.
"""

from __future__ import annotations

import torch
from torch import Tensor

# B batch or candidates, P patch points

HIGHEST_PLANE_M = 0.04
"""The patch lies on the plane of the commanded height, but no higher than this."""
STEEPEST = 3.0
"""Lines of sight flatter than this many metres sideways per metre up are not told apart."""
_NEAREST = 1e-3
"""A camera is taken to be no nearer to a grasp's height than this many metres, and part of its
distance: no slope, and no gradient of one, is infinite."""


def final_pose(pose_B4: Tensor, action_B5: Tensor) -> Tensor:
    """Return float32[B, 5]: where each action leads: x, y, z, sine and cosine of the yaw."""
    sin_B1, cos_B1 = pose_B4[:, 3:].sin(), pose_B4[:, 3:].cos()
    turn_sin_B1, turn_cos_B1 = action_B5[:, 3:4], action_B5[:, 4:]
    return torch.cat(
        [
            pose_B4[:, :3] + action_B5[:, :3],
            sin_B1 * turn_cos_B1 + cos_B1 * turn_sin_B1,
            cos_B1 * turn_cos_B1 - sin_B1 * turn_sin_B1,
        ],
        dim=1,
    )


def patch_coordinates(grid_B3P: Tensor, target_B5: Tensor, map_B34: Tensor) -> Tensor:
    """Return where the patch's points appear: float32[B, 2, P], column before row.

    Args:
        grid_B3P: points in the patch: along the fingers' faces, along the closing direction
            (metres), and 1.
        target_B5: what ``final_pose`` returned.
        map_B34: hand-eye maps; the result is in their image coordinates, [-1, 1] as they come.
    """
    sin_B1, cos_B1 = target_B5[:, 3:4], target_B5[:, 4:]
    column_x_B3, column_y_B3 = map_B34[:, :, 0], map_B34[:, :, 1]
    origin_B3 = (
        column_x_B3 * target_B5[:, 0:1]
        + column_y_B3 * target_B5[:, 1:2]
        + map_B34[:, :, 2] * target_B5[:, 2:3].clamp(max=HIGHEST_PLANE_M)
        + map_B34[:, :, 3]
    )
    along_x_B3 = column_x_B3 * cos_B1 + column_y_B3 * sin_B1
    along_y_B3 = column_y_B3 * cos_B1 - column_x_B3 * sin_B1
    q_B3P = torch.stack([along_x_B3, along_y_B3, origin_B3], dim=2) @ grid_B3P
    return q_B3P[:, :2] / q_B3P[:, 2:].clamp(min=1e-3)


def line_of_sight(target_B5: Tensor, map_B34: Tensor) -> Tensor:
    """Return float32[B, 2]: how far the ray from target to camera goes sideways per metre up.

    In the gripper's frame. It tells the network from which side the patch is seen, hence which
    way things of some height lean in it.
    """
    camera_B3, weight_B1 = _camera(map_B34)
    ray_B3 = camera_B3 - weight_B1 * target_B5[:, :3]
    slope_B2 = (ray_B3[:, :2] / _off_zero(ray_B3, weight_B1)).clamp(-STEEPEST, STEEPEST)
    x_B1, y_B1 = slope_B2[:, :1], slope_B2[:, 1:]
    sin_B1, cos_B1 = target_B5[:, 3:4], target_B5[:, 4:]
    return torch.cat([cos_B1 * x_B1 + sin_B1 * y_B1, cos_B1 * y_B1 - sin_B1 * x_B1], dim=1)


def _off_zero(ray_B3: Tensor, weight_B1: Tensor) -> Tensor:
    """Return the rays' heights float32[B, 1], with their sign, but not too small to divide by."""
    height_B1 = ray_B3[:, 2:]
    length_B1 = weight_B1.abs() + ray_B3.abs().amax(dim=1, keepdim=True)
    least_B1 = (_NEAREST * length_B1.detach()).clamp(min=1e-30)
    least_B1 = torch.where(height_B1 < 0, -least_B1, least_B1)
    return torch.where(height_B1.abs() < least_B1.abs(), least_B1, height_B1)


def _camera(map_B34: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the camera stands, float32[B, 3] times the weight float32[B, 1].

    The point that a map sends to (0, 0, 0), by Cramer's rule; for a camera infinitely far away the
    weight is 0 and the point is its direction.
    """
    rows_B33 = map_B34[:, :, :3]
    one, other = rows_B33[:, [1, 2, 0]], rows_B33[:, [2, 0, 1]]
    # The cross products by hand: the ONNX export of torch's needs a fixed batch.
    crossed_B33 = (
        one[:, :, [1, 2, 0]] * other[:, :, [2, 0, 1]]
        - one[:, :, [2, 0, 1]] * other[:, :, [1, 2, 0]]
    )
    camera_B3 = -(crossed_B33 * map_B34[:, :, 3:]).sum(dim=1)
    weight_B1 = (rows_B33[:, 0] * crossed_B33[:, 0]).sum(dim=1, keepdim=True)
    return camera_B3, weight_B1
