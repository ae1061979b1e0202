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

from learner.networks.base import GraspNetwork, in_float32, normalised_images
from learner.networks.patch_view import final_pose, line_of_sight, patch_coordinates

# B batch, N candidates, P patch points, C channels, R patch rows, S patch columns, K conditions

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
FINENESS = 2
"""On the robot a patch point takes the nearest of this many interpolated points a pixel, each way:
a quarter of a pixel off at most. Finer was no better, and its table outgrew the cache."""


class PatchNetwork(GraspNetwork):
    """Logit of success from a rectified patch, the commanded height and the line of sight."""

    grid_3P: Tensor

    def __init__(self, *, height_px: int, width_px: int) -> None:
        super().__init__(height_px=height_px, width_px=width_px)
        self.register_buffer("grid_3P", patch_grid(), persistent=False)
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
        target_B5 = final_pose(pose_B4, action_B5)
        grid_B3P, mirror_B2 = self.grid_3P.expand(len(target_B5), -1, -1), None
        if variation is not None:
            mirror_B2 = variation.mirror_B2
            stretch_B3 = functional.pad(mirror_B2 * variation.scale_B1, (0, 1), value=1.0)
            grid_B3P = grid_B3P * stretch_B3[:, :, None]
        # In bfloat16 a patch point is up to a third of a pixel off.
        with in_float32(map_B34.device):
            uv_B2P = patch_coordinates(grid_B3P, target_B5, map_B34)
        patch_BCRS = functional.grid_sample(
            normalised_images(first_image_BHWC, image_BHWC),
            uv_B2P.transpose(1, 2).reshape(-1, ROWS, COLUMNS, 2),
            align_corners=False,
        )
        if variation is not None:
            patch_BCRS = patch_BCRS * variation.gain_BC11 + variation.brightness_B111
        condition_BK = conditions(target_B5, action_B5, map_B34, mirror_B2)
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
        variation = Variation.draw(len(pose_B4), rng, pose_B4.device)
        logit_B: Tensor = self(first_image_BHWC, image_BHWC, pose_B4, map_B34, action_B5, variation)
        return logit_B

    def encode_graph(self) -> nn.Module:
        """Return the graph that interpolates both pictures for sampling."""
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
    def draw(
        cls, count: int, rng: np.random.Generator, device: torch.device | None = None
    ) -> Variation:
        """Draw ``count`` variations, the same ones for every device."""

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)

        mirror = torch.from_numpy(rng.integers(0, 2, (count, 2)).astype(np.float32)).to(device)
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
        # Multiples of 16: ONNX Runtime's convolutions take channels 16 at a time.
        self.conv1 = nn.Conv2d(6, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 48, 3, padding=1)
        self.condition = nn.Sequential(nn.Linear(CONDITIONS, 32), nn.ReLU(), nn.Linear(32, 16))
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


def patch_grid() -> Tensor:
    """Return float32[3, P]: where the patch's points are (metres), row by row, and 1."""
    along_R = ((torch.arange(ROWS) + 0.5) / ROWS - 0.5) * LENGTH_M
    across_S = ((torch.arange(COLUMNS) + 0.5) / COLUMNS - 0.5) * WIDTH_M
    along_RS, across_RS = torch.meshgrid(along_R, across_S, indexing="ij")
    return torch.stack([along_RS, across_RS, torch.ones(ROWS, COLUMNS)]).flatten(1)


def conditions(
    target_B5: Tensor, action_B5: Tensor, map_B34: Tensor, mirror_B2: Tensor | None = None
) -> Tensor:
    """Return float32[B, CONDITIONS]: height, line of sight, and how far there is still to go.

    The last of these is what a blocked descent shows in: the hand was sent lower than it is.
    """
    z_B1 = target_B5[:, 2:3]
    sight_B2 = line_of_sight(target_B5, map_B34)
    if mirror_B2 is not None:
        sight_B2 = sight_B2 * mirror_B2
    # The small constant keeps the gradient finite where there is no way to go.
    sideways_B1 = (action_B5[:, :2].square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
    scales = torch.tensor(WAY_SCALES_M, device=action_B5.device)
    ways_B6 = torch.cat([action_B5[:, 2:3] / scales, sideways_B1 / scales], dim=1).tanh()
    heights = [z_B1 * 50.0 - 0.5, z_B1.clamp(max=0.03) * 100.0 - 1.0, z_B1 * 10.0]
    return torch.cat([*heights, sight_B2, ways_B6], dim=1)


class _Encode(nn.Module):
    """Interpolates both pictures once, so that sampling a patch point is one row gathered."""

    def forward(self, first_image: Tensor, image: Tensor) -> Tensor:
        """Return float32[(H + 1) * FINENESS * (W + 1) * FINENESS, 6], row by row.

        Points lie between neighbouring pixels, with a border of zeros like ``grid_sample``'s.
        """
        pixels_HWC = torch.cat([first_image, image], dim=-1)[0].float() / 127.5 - 1.0
        padded = functional.pad(pixels_HWC, (0, 0, 1, 1, 1, 1))
        return _interpolated(_interpolated(padded, dim=1), dim=0).reshape(-1, 6)


def _interpolated(picture: Tensor, dim: int) -> Tensor:
    """Return FINENESS values between any two neighbours along ``dim``."""
    gaps = picture.shape[dim] - 1
    low = picture.narrow(dim, 0, gaps)
    rise = picture.narrow(dim, 1, gaps) - low
    values = [low + rise * ((k + 0.5) / FINENESS) for k in range(FINENESS)]
    return torch.stack(values, dim=dim + 1).flatten(dim, dim + 1)


class _Score(nn.Module):
    """One gather for the patches of all candidates, then the head."""

    grid_3P: Tensor
    to_points_33: Tensor

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.head = network.head
        self.rows = (network.height_px + 1) * FINENESS
        self.columns = (network.width_px + 1) * FINENESS
        self.register_buffer("grid_3P", network.grid_3P, persistent=False)
        # From image coordinates to encoded points. The first cell begins at the centre of the
        # border pixel, half a pixel outside the image.
        half = torch.tensor([network.width_px / 2, network.height_px / 2])
        to_points_33 = torch.diag(functional.pad(half * FINENESS, (0, 1), value=1.0))
        to_points_33[:2, 2] = (half + 0.5) * FINENESS
        self.register_buffer("to_points_33", to_points_33, persistent=False)

    def forward(
        self, features: Tensor, pose: Tensor, hand_eye_map: Tensor, actions: Tensor
    ) -> Tensor:
        """Return success probabilities float32[N]."""
        target_N5 = final_pose(pose[None], actions)
        map_134 = (self.to_points_33 @ hand_eye_map)[None]
        points_N2P = patch_coordinates(self.grid_3P[None], target_N5, map_134)
        column_NP = points_N2P[:, 0].clamp(0.0, self.columns - 1.0).int()
        row_NP = points_N2P[:, 1].clamp(0.0, self.rows - 1.0).int()
        patch_NPC = functional.embedding(row_NP * self.columns + column_NP, features)
        patch_NCRS = patch_NPC.transpose(1, 2).reshape(-1, 6, ROWS, COLUMNS)
        condition_NK = conditions(target_N5, actions, hand_eye_map[None])
        return torch.sigmoid(self.head(patch_NCRS, condition_NK))
