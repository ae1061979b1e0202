"""Everything that the gradient changes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from learner.networks import GraspNetwork
from learner.training.batch import Batch
from learner.training.hand_eye_refiner import HandEyeRefiner

# B batch


class Learned(nn.Module):
    """The network and the fleet's hand-eye maps."""

    def __init__(self, network: GraspNetwork) -> None:
        super().__init__()
        self.network = network
        self.refiner = HandEyeRefiner()

    def forward(self, batch: Batch) -> Tensor:
        """Return logits float32[B] of a batch on this device, without augmentation."""
        map_B34 = self.refiner(batch.calibration_B, batch.map_B34)
        logit_B: Tensor = self.network(
            batch.first_image_BHWC, batch.image_BHWC, batch.pose_B4, map_B34, batch.action_B5
        )
        return logit_B

    @property
    def device(self) -> torch.device:
        """Where the weights are, and batches must be."""
        return self.refiner.correction_R24.device

    def copied(self) -> Learned:
        """Return what stays as it is now while this one is trained on."""
        return copy.deepcopy(self).requires_grad_(requires_grad=False)
