"""Whether predicted probabilities are as often right as they say."""

from __future__ import annotations

import torch
from torch import Tensor

# B batch

GROUPS = 10


def calibration_error(logit_B: Tensor, success_B: Tensor) -> float:
    """Return the mean difference between predicted and realised success, 0 to 1.

    Over GROUPS groups of predictions, sorted and equally large (the expected calibration error of
    Naeini, Cooper, Hauskrecht 2015). There must be at least one prediction; a few hundred keep
    chance from being taken for error.
    """
    order_B = logit_B.argsort()
    predicted_B, success_B = torch.sigmoid(logit_B[order_B]), success_B[order_B]
    gaps = [
        abs(float((predicted - success).sum()))
        for predicted, success in zip(
            predicted_B.tensor_split(GROUPS), success_B.tensor_split(GROUPS), strict=True
        )
    ]
    return sum(gaps) / len(logit_B)
