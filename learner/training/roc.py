"""How well predictions tell successes from failures."""

from __future__ import annotations

import torch
from torch import Tensor

# B batch


def area_under_curve(logit_B: Tensor, success_B: Tensor) -> float | None:
    """Return the ROC AUC by ranks (Mann-Whitney); None unless both outcomes are there.

    Equal logits share their mean rank, so that a network that knows nothing gets 0.5.
    """
    positive = int(success_B.sum())
    negative = len(success_B) - positive
    if not positive or not negative:
        return None
    sorted_B = logit_B.sort().values
    below_B = torch.searchsorted(sorted_B, logit_B)
    up_to_B = torch.searchsorted(sorted_B, logit_B, right=True)
    rank_B = (below_B + up_to_B + 1).double() / 2
    rank_sum = float(rank_B[success_B > 0.5].sum())
    return (rank_sum - positive * (positive + 1) / 2) / (positive * negative)
