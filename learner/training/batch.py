"""Training examples as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

# B batch, H image rows, W image columns


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Training examples: one per step of an attempt (Levine et al. 2016, section IV-A)."""

    first_image_BHWC: Tensor
    """uint8: the bin without the hand."""
    image_BHWC: Tensor
    """uint8: the bin at the step."""
    pose_B4: Tensor
    """float32: measured pose at the step; metres, radians."""
    action_B5: Tensor
    """float32: from there to the commanded pose at which the gripper closed."""
    calibration_B: Tensor
    """int64: key of the robot's calibration (see HandEyeRefiner)."""
    map_B34: Tensor
    """float32: the hand-eye map that the robot found itself."""
    success_B: Tensor
    """float32: 1 or 0, the label of the attempt."""
    added_logit_B: Tensor
    """float32: what drawing in balance added to the log-odds of success; 0 where nothing was."""
    attempt_B: Tensor
    """int64: the same number for all steps of one attempt."""
    place_B: Tensor
    """int64: where the example is in its set; no other one ever gets this number."""

    def __len__(self) -> int:
        return len(self.success_B)

    def only(self, chosen_B: Tensor) -> Batch:
        """Return the examples where ``chosen_B`` (bool) is true."""
        return self._each(lambda tensor: tensor[chosen_B])

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; from pinned memory nobody waits for that."""
        if self.success_B.device == device:
            return self
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Return the batch in memory that an accelerator reads by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


def joined(batches: Sequence[Batch]) -> Batch:
    """Return one batch of all examples; their places are then no longer unique."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        **{
            field.name: torch.cat([getattr(batch, field.name) for batch in batches])
            for field in fields(Batch)
        }
    )
