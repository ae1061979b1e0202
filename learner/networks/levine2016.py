"""The network of Levine et al. 2016, scaled from 472 px to small images.

Kept: both pictures stacked, the sequence of layers, the motor command through two fully
connected layers, tiled and added onto the feature map, batch normalisation throughout. Changed:
paddings and the last poolings, because a 64 px picture leaves maps of 11, 6 and 3 instead of
79, 27 and 13. It reads neither the absolute pose nor the hand-eye map, as in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from learner.networks.base import GraspNetwork, normalised_images

WIDTH = 64
"""Channels of every convolution."""


class Levine2016Network(GraspNetwork):
    """Image trunk, command added in the middle, head."""

    command_scale: Tensor

    def __init__(self, *, height_px: int, width_px: int) -> None:
        super().__init__(height_px=height_px, width_px=width_px)
        self.trunk = nn.Sequential(
            *_convolution(6, kernel=6, stride=2, padding=2),
            nn.MaxPool2d(3, ceil_mode=True),
            *[layer for _ in range(6) for layer in _convolution(WIDTH, kernel=5, padding=2)],
            nn.MaxPool2d(2, ceil_mode=True),
        )
        self.command = nn.Sequential(nn.Linear(5, 256), nn.ReLU(), nn.Linear(256, WIDTH), nn.ReLU())
        self.head = nn.Sequential(
            *[layer for _ in range(6) for layer in _convolution(WIDTH, kernel=3, padding=1)],
            nn.MaxPool2d(2, ceil_mode=True),
            *[layer for _ in range(3) for layer in _convolution(WIDTH, kernel=3, padding=1)],
            nn.Flatten(),
        )
        with torch.no_grad():
            image = torch.zeros(2, 6, height_px, width_px)
            size = self.head(self.trunk(image)).shape[1]
        self.out = nn.Sequential(
            nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        )
        # Displacements are centimetres; the network likes numbers around one.
        self.register_buffer(
            "command_scale", torch.tensor([10.0, 10.0, 10.0, 1.0, 1.0]), persistent=False
        )

    def forward(
        self,
        first_image_BHWC: Tensor,
        image_BHWC: Tensor,
        pose_B4: Tensor,
        map_B34: Tensor,
        action_B5: Tensor,
    ) -> Tensor:
        """Return logits float32[B]."""
        return self.merge(self.trunk(normalised_images(first_image_BHWC, image_BHWC)), action_B5)

    def merge(self, features_BCHW: Tensor, action_B5: Tensor) -> Tensor:
        """Return logits float32[B]: the command tiled onto the features, then the head."""
        command_BC = self.command(action_B5 * self.command_scale)
        logit_B1: Tensor = self.out(self.head(features_BCHW + command_BC[:, :, None, None]))
        return logit_B1[:, 0]

    def encode_graph(self) -> nn.Module:
        """Return the trunk, which runs once per decision."""
        return _Encode(self)

    def score_graph(self) -> nn.Module:
        """Return the part behind the trunk, which runs once per candidate."""
        return _Score(self)


def _convolution(
    channels: int, *, kernel: int, stride: int = 1, padding: int
) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, WIDTH, kernel, stride=stride, padding=padding, bias=False)
    return convolution, nn.BatchNorm2d(WIDTH), nn.ReLU()


class _Encode(nn.Module):
    def __init__(self, network: Levine2016Network) -> None:
        super().__init__()
        self.trunk = network.trunk

    def forward(self, first_image: Tensor, image: Tensor) -> Tensor:
        """Return float32[1, C, h, w]."""
        features: Tensor = self.trunk(normalised_images(first_image, image))
        return features


class _Score(nn.Module):
    def __init__(self, network: Levine2016Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        features: Tensor,
        pose: Tensor,
        hand_eye_map: Tensor,
        actions: Tensor,
    ) -> Tensor:
        """Return success probabilities float32[N]."""
        return torch.sigmoid(self.network.merge(features, actions))
