"""What every network offers: logits for training, two graphs for the robots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn


def in_float32(device: torch.device) -> AbstractContextManager[None]:
    """Compute in float32 also where a step is in bfloat16, for what eight bits are too few."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class GraspNetwork(nn.Module, ABC):
    """A hand-eye Q-function: predicts whether the grasp that a motion leads to will succeed.

    The legend of the tensor suffixes here and in the networks: B batch, N candidates, H image
    rows, W image columns, C channels. Images are uint8 RGB; poses are x, y, z (metres) and yaw
    (radians) in the base frame; actions are dx, dy, dz (metres), sin and cos of the wrist
    rotation; maps are protocol.hand_eye matrices.
    """

    def __init__(self, *, height_px: int, width_px: int) -> None:
        super().__init__()
        self.height_px = height_px
        self.width_px = width_px

    @abstractmethod
    def forward(
        self,
        first_image_BHWC: Tensor,
        image_BHWC: Tensor,
        pose_B4: Tensor,
        map_B34: Tensor,
        action_B5: Tensor,
    ) -> Tensor:
        """Return logits float32[B], one action per image."""

    def augmented(
        self,
        first_image_BHWC: Tensor,
        image_BHWC: Tensor,
        pose_B4: Tensor,
        map_B34: Tensor,
        action_B5: Tensor,
        rng: np.random.Generator,
    ) -> Tensor:
        """Return logits float32[B] as ``forward``, on inputs varied in ways that keep the label.

        What those are depends on the architecture; by default nothing is varied.
        """
        del rng
        logit_B: Tensor = self(first_image_BHWC, image_BHWC, pose_B4, map_B34, action_B5)
        return logit_B

    @abstractmethod
    def encode_graph(self) -> nn.Module:
        """Return ``encode(first_image u8[1,H,W,3], image u8[1,H,W,3]) -> features``.

        It shares this network's parameters.
        """

    @abstractmethod
    def score_graph(self) -> nn.Module:
        """Return ``score(features, pose[4], hand_eye_map[3,4], actions[N,5]) -> success[N]``.

        It shares this network's parameters; success is a probability.
        """

    def example_inputs(self, candidates: int = 64) -> dict[str, Tensor]:
        """Return random but plausible inputs of both graphs, by name."""
        shape = (1, self.height_px, self.width_px, 3)
        hand_eye_map = torch.tensor(
            [[0.1, -3.3, 0.3, 0.0], [-2.4, 0.0, -2.3, 0.2], [0.6, 0.2, -0.8, 0.6]]
        )
        turn = torch.rand(candidates) * 3.0 - 1.5
        shift = (torch.rand(candidates, 3) - 0.5) * 0.1
        return {
            "first_image": torch.randint(0, 256, shape, dtype=torch.uint8),
            "image": torch.randint(0, 256, shape, dtype=torch.uint8),
            "pose": torch.tensor([0.01, -0.02, 0.05, 0.3]),
            "hand_eye_map": hand_eye_map,
            "actions": torch.cat([shift, turn.sin()[:, None], turn.cos()[:, None]], dim=1),
        }


def normalised_images(first_image_BHWC: Tensor, image_BHWC: Tensor) -> Tensor:
    """Return float32[B, 6, H, W] in [-1, 1]: the picture without the hand, then the one now."""
    both_BHWC = torch.cat([first_image_BHWC, image_BHWC], dim=-1)
    # In place: a batch's pictures take 25 MB, and touching fresh memory costs more than the sums.
    return both_BHWC.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
