"""Random numbers of a training step: a function of seed, step and worker, and of nothing else.

Whatever draws meanwhile, and wherever training is interrupted, a step draws the same.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What random numbers are for."""

    SAMPLES = 0
    VARIATIONS = 1
    DROPOUT = 2
    HISTORY = 3
    READING = 4
    STATISTICS = 5


def generator(seed: int, stream: Stream, step: int = 0, worker: int = 0) -> np.random.Generator:
    """Return the generator of one step."""
    return np.random.default_rng((seed, stream, step, worker))


def seed_torch(seed: int, step: int, worker: int = 0) -> None:
    """Set torch's generators for one step: layers draw from them."""
    torch.manual_seed(int(generator(seed, Stream.DROPOUT, step, worker).integers(2**62)))
