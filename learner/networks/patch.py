"""The patch network: looks at the place where the gripper would close.

A departure from Levine et al. 2016, whose network sees the whole image and the displacement
only. Here the commanded final pose goes through the hand-eye map to the image, and a patch of
the workspace, as wide as the open gripper and turned to the commanded yaw, is rectified from the
two pictures (a spatial transformer, Jaderberg et al. 2015). The patch looks alike whatever the
camera's pose, which is what lets one network serve every robot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from learner.networks.base import GraspNetwork, normalised_images

# B batch or candidates, P patch points, C channels, R patch rows, S patch columns

ROWS = 16
COLUMNS = 16
LENGTH_M = 0.09
"""Extent of the patch along the fingers' faces (gripper x)."""
WIDTH_M = 0.12
"""Extent of the patch along the closing direction (gripper y)."""
SCALE_SD, LIGHT_SD = 0.06, 0.15
"""Spread of the variations in training: of size, and of contrast and brightness."""
WAY_SCALES_M = (0.0035, 0.015, 0.06)
"""The way still to go is told apart at these scales: blocked, near, far."""
CONDITIONS = 5 + 2 * len(WAY_SCALES_M)
"""Numbers that join the patch: see ``conditions``."""
FINENESS = 4
"""On the robot a patch point takes the nearest of this many interpolated points a pixel, each way:
an eighth of a pixel off at most, for a third of the time of interpolating every point."""
HIGHEST_PLANE_M = 0.04
"""The patch lies on the plane of the commanded height, but no higher than this."""


class PatchNetwork(GraspNetwork):
    """Logit of success from a rectified patch, the commanded height and the line of sight."""

    grid_P2: Tensor

    def __init__(self, *, height_px: int, width_px: int) -> None:
        super().__init__(height_px=height_px, width_px=width_px)
        x = (torch.arange(ROWS) + 0.5) / ROWS - 0.5
        y = (torch.arange(COLUMNS) + 0.5) / COLUMNS - 0.5
        grid_RS2 = torch.stack(torch.meshgrid(x * LENGTH_M, y * WIDTH_M, indexing="ij"), dim=-1)
        self.register_buffer("grid_P2", grid_RS2.reshape(-1, 2), persistent=False)
        self.head = PatchHead()

    def forward(
        self,
        first_image_BHWC: Tensor,
        image_BHWC: Tensor,
        pose_B4: Tensor,
        map_B34: Tensor,
        action_B5: Tensor,
        variation: Variation | None = None,
    ) -> Tensor:
        """Return logits float32[B].

        Args:
            first_image_BHWC: uint8, the bin without the hand.
            image_BHWC: uint8, the bin now.
            pose_B4: measured poses.
            map_B34: hand-eye maps.
            action_B5: displacements to the final poses.
            variation: how to vary the patches in training.
        """
        target_B4 = final_pose(pose_B4, action_B5)
        grid_BP2 = self.grid_P2[None].expand(len(target_B4), -1, -1)
        mirror_B2 = None
        if variation is not None:
            mirror_B2 = variation.mirror_B2
            grid_BP2 = grid_BP2 * (mirror_B2 * variation.scale_B1)[:, None, :]
        uv_BP2 = patch_coordinates(grid_BP2, target_B4, map_B34)
        patch_BCRS = functional.grid_sample(
            normalised_images(first_image_BHWC, image_BHWC),
            uv_BP2.reshape(-1, ROWS, COLUMNS, 2),
            align_corners=False,
        )
        if variation is not None:
            patch_BCRS = patch_BCRS * variation.gain_BC11 + variation.brightness_B111
        condition_BK = conditions(target_B4, action_B5, map_B34, mirror_B2)
        logit_B: Tensor = self.head(patch_BCRS, condition_BK)
        return logit_B

    def augmented(
        self,
        first_image_BHWC: Tensor,
        image_BHWC: Tensor,
        pose_B4: Tensor,
        map_B34: Tensor,
        action_B5: Tensor,
        rng: np.random.Generator,
    ) -> Tensor:
        """Return logits float32[B] of patches mirrored, zoomed a little, in another light."""
        variation = Variation.draw(len(pose_B4), rng)
        logit_B: Tensor = self(first_image_BHWC, image_BHWC, pose_B4, map_B34, action_B5, variation)
        return logit_B

    def encode_graph(self) -> nn.Module:
        """Return the graph that packs both pictures for sampling."""
        return _Encode()

    def score_graph(self) -> nn.Module:
        """Return the graph that samples a patch per candidate and scores it."""
        return _Score(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """How each patch of a batch is varied in training."""

    mirror_B2: Tensor
    """+1 or -1 for the patch's x and y: a grasp seen in a mirror is as good."""
    scale_B1: Tensor
    """Things a little larger or smaller are grasped alike."""
    gain_BC11: Tensor
    """Of contrast and colour, the same in both pictures."""
    brightness_B111: Tensor

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> Variation:
        """Draw ``count`` variations."""

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(rng.standard_normal(shape, np.float32))

        mirror = torch.from_numpy(rng.integers(0, 2, (count, 2)).astype(np.float32))
        colour_B3 = 1 + 0.5 * LIGHT_SD * normal(count, 3)
        gain_BC = (1 + LIGHT_SD * normal(count, 1)) * colour_B3.repeat(1, 2)
        return cls(
            mirror_B2=mirror * 2 - 1,
            scale_B1=1 + SCALE_SD * normal(count, 1),
            gain_BC11=gain_BC[:, :, None, None],
            brightness_B111=LIGHT_SD * normal(count, 1, 1, 1),
        )


class PatchHead(nn.Module):
    """Convolutions over the patch; the conditions join after the second and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.condition = nn.Sequential(nn.Linear(CONDITIONS, 32), nn.ReLU(), nn.Linear(32, 32))
        self.late_condition = nn.Sequential(nn.Linear(CONDITIONS, 32), nn.ReLU())
        self.drop = nn.Dropout(0.1)
        self.hidden = nn.Linear(48 * (ROWS // 8) * (COLUMNS // 8) + 32, 64)
        self.out = nn.Linear(64, 1)

    def forward(self, patch_BCRS: Tensor, condition_BK: Tensor) -> Tensor:
        """Return logits float32[B] from patches and what ``conditions`` returned for them."""
        x = functional.max_pool2d(functional.relu(self.conv1(patch_BCRS)), 2)
        x = self.conv2(x) + self.condition(condition_BK)[:, :, None, None]
        x = functional.max_pool2d(functional.relu(x), 2)
        x = functional.max_pool2d(functional.relu(self.conv3(x)), 2)
        x = torch.cat([self.drop(x.flatten(1)), self.late_condition(condition_BK)], dim=1)
        x = functional.relu(self.hidden(x))
        logit_B1: Tensor = self.out(self.drop(x))
        return logit_B1[:, 0]


def final_pose(pose_B4: Tensor, action_B5: Tensor) -> Tensor:
    """Return float32[B, 4]: the pose that each action leads to."""
    yaw_B1 = pose_B4[:, 3:4] + torch.atan2(action_B5[:, 3:4], action_B5[:, 4:5])
    return torch.cat([pose_B4[:, :3] + action_B5[:, :3], yaw_B1], dim=1)


def patch_coordinates(grid_BP2: Tensor, target_B4: Tensor, map_B34: Tensor) -> Tensor:
    """Return where the patch's points appear: float32[B, P, 2] in [-1, 1].

    The plane of the patch is horizontal, so grid to image is one homography per target.
    """
    sin_B, cos_B = target_B4[:, 3].sin(), target_B4[:, 3].cos()
    column_x_B3, column_y_B3 = map_B34[:, :, 0], map_B34[:, :, 1]
    plane_B = target_B4[:, 2].clamp(max=HIGHEST_PLANE_M)
    origin_B3 = (
        column_x_B3 * target_B4[:, 0:1]
        + column_y_B3 * target_B4[:, 1:2]
        + map_B34[:, :, 2] * plane_B[:, None]
        + map_B34[:, :, 3]
    )
    along_x_B3 = column_x_B3 * cos_B[:, None] + column_y_B3 * sin_B[:, None]
    along_y_B3 = column_y_B3 * cos_B[:, None] - column_x_B3 * sin_B[:, None]
    homography_B33 = torch.stack([along_x_B3, along_y_B3, origin_B3], dim=2)
    grid_B3P = functional.pad(grid_BP2, (0, 1), value=1.0).transpose(1, 2)
    q_B3P = homography_B33 @ grid_B3P
    depth_BP = q_B3P[:, 2].clamp(min=1e-3)
    return torch.stack([q_B3P[:, 0] / depth_BP, q_B3P[:, 1] / depth_BP], dim=-1)


def conditions(
    target_B4: Tensor, action_B5: Tensor, map_B34: Tensor, mirror_B2: Tensor | None = None
) -> Tensor:
    """Return float32[B, CONDITIONS]: height, line of sight, and how far there is still to go.

    The last of these is what a blocked descent shows in: the hand was sent lower than it is.
    """
    z_B1 = target_B4[:, 2:3]
    sight_B2 = line_of_sight(target_B4, map_B34)
    if mirror_B2 is not None:
        sight_B2 = sight_B2 * mirror_B2
    down_B1 = action_B5[:, 2:3]
    # The small constant keeps the gradient finite where there is no way to go.
    sideways_B1 = (action_B5[:, :2].square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
    heights = [z_B1 * 50.0 - 0.5, z_B1.clamp(max=0.03) * 100.0 - 1.0, z_B1 * 10.0]
    ways = [torch.tanh(way / scale) for way in (down_B1, sideways_B1) for scale in WAY_SCALES_M]
    return torch.cat([*heights, sight_B2, *ways], dim=1)


def _turned(xy_B2: Tensor, yaw_B: Tensor) -> Tensor:
    """Return base-frame vectors float32[B, 2] in the gripper's frame."""
    sin_B, cos_B = yaw_B.sin(), yaw_B.cos()
    x_B, y_B = xy_B2[:, 0], xy_B2[:, 1]
    return torch.stack([cos_B * x_B + sin_B * y_B, cos_B * y_B - sin_B * x_B], dim=1)


def line_of_sight(target_B4: Tensor, map_B34: Tensor) -> Tensor:
    """Return float32[B, 2]: how far the ray through the target moves sideways per metre up.

    In the gripper's frame. It tells the network from which side the patch is seen, hence which
    way things of some height lean in it.
    """
    rows = map_B34[:, :, :3]
    q_B3 = (rows * target_B4[:, None, :3]).sum(dim=2) + map_B34[:, :, 3]
    depth_B1 = q_B3[:, 2:].clamp(min=1e-3)
    u_B1, v_B1 = q_B3[:, 0:1] / depth_B1, q_B3[:, 1:2] / depth_B1
    a, b = rows[:, 0] - u_B1 * rows[:, 2], rows[:, 1] - v_B1 * rows[:, 2]
    # The cross product by hand: its ONNX export needs a fixed batch.
    ray_x = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    ray_y = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
    ray_z = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    # Maps look down, so |ray_z| is far from zero; keep its sign, bound the slope.
    slope_x = (ray_x / (ray_z + 1e-9)).clamp(-3.0, 3.0)
    slope_y = (ray_y / (ray_z + 1e-9)).clamp(-3.0, 3.0)
    return _turned(torch.stack([slope_x, slope_y], dim=1), target_B4[:, 3])


class _Encode(nn.Module):
    """Interpolates both pictures once, so that sampling a patch point is one row gathered."""

    weights_4F: Tensor

    def __init__(self) -> None:
        super().__init__()
        offset = (torch.arange(FINENESS) + 0.5) / FINENESS
        low, right = torch.meshgrid(offset, offset, indexing="ij")
        weights_4F = torch.stack(
            [(1 - low) * (1 - right), (1 - low) * right, low * (1 - right), low * right]
        ).reshape(4, -1)
        self.register_buffer("weights_4F", weights_4F, persistent=False)

    def forward(self, first_image: Tensor, image: Tensor) -> Tensor:
        """Return float32[(H + 1) * (W + 1) * FINENESS ** 2, 6].

        A cell lies between four neighbouring pixels (with a border of zeros like
        ``grid_sample``'s); its FINENESS x FINENESS points follow one another.
        """
        pixels_6HW = normalised_images(first_image, image)[0]
        padded = functional.pad(pixels_6HW, (1, 1, 1, 1))
        corners = torch.stack(
            [padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]], dim=-1
        )
        points_6KF = corners.reshape(6, -1, 4) @ self.weights_4F
        return points_6KF.reshape(6, -1).transpose(0, 1).contiguous()


class _Score(nn.Module):
    """One gather for the patches of all candidates, then the head."""

    grid_P2: Tensor

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.head = network.head
        self.height_px, self.width_px = network.height_px, network.width_px
        self.register_buffer("grid_P2", network.grid_P2, persistent=False)

    def forward(
        self, features: Tensor, pose: Tensor, hand_eye_map: Tensor, actions: Tensor
    ) -> Tensor:
        """Return success probabilities float32[N]."""
        target_N4 = final_pose(pose[None], actions)
        map_134 = hand_eye_map[None]
        uv_NP2 = patch_coordinates(self.grid_P2[None], target_N4, map_134)
        patch_NPC = functional.embedding(self._row_of(uv_NP2), features)
        patch_NCRS = patch_NPC.permute(0, 2, 1).reshape(-1, 6, ROWS, COLUMNS)
        return torch.sigmoid(self.head(patch_NCRS, conditions(target_N4, actions, map_134)))

    def _row_of(self, uv_NP2: Tensor) -> Tensor:
        """Return int64[N, P]: the row of the encoded pictures nearest to each point."""
        # Cell 0 begins at the centre of the border pixel, half a pixel outside the image.
        column = ((uv_NP2[..., 0] + 1.0) * (self.width_px / 2) + 0.5) * FINENESS
        row = ((uv_NP2[..., 1] + 1.0) * (self.height_px / 2) + 0.5) * FINENESS
        fine_j = column.clamp(0.0, (self.width_px + 1) * FINENESS - 1.0).int()
        fine_i = row.clamp(0.0, (self.height_px + 1) * FINENESS - 1.0).int()
        cell = (fine_i // FINENESS) * (self.width_px + 1) + fine_j // FINENESS
        return (cell * FINENESS + fine_i % FINENESS) * FINENESS + fine_j % FINENESS
