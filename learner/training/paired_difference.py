"""The mean of paired differences, with an interval that knows which of them belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# B batch, K attempts

_NORMAL_95 = 1.96


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float
    attempts: int
    """How many independent attempts the differences come from."""


def paired_difference(difference_B: Tensor, attempt_B: Tensor) -> PairedDifference:
    """Return the mean difference with a normal interval, clustered by attempt.

    Steps of one attempt share its label, hence their errors: as independent examples they would
    make the interval too narrow (cluster-robust variance of a mean, Liang & Zeger 1986).

    Args:
        difference_B: float[B], one difference per example; there must be two attempts at least.
        attempt_B: int64[B], equal for examples of one attempt.
    """
    difference_B = difference_B.double()
    found, cluster_B = np.unique(attempt_B.numpy(), return_inverse=True)
    attempts = len(found)
    mean = float(difference_B.mean())
    sum_K = torch.zeros(attempts, dtype=torch.float64)
    sum_K.index_add_(0, torch.from_numpy(cluster_B), difference_B - mean)
    variance = float(sum_K.square().sum()) * attempts / (attempts - 1) / len(difference_B) ** 2
    margin = _NORMAL_95 * math.sqrt(variance)
    return PairedDifference(mean=mean, low=mean - margin, high=mean + margin, attempts=attempts)
