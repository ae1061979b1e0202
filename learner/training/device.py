"""Where this process trains."""

from __future__ import annotations

import torch

from learner.config import TrainingConfig
from protocol.errors import ConfigurationError


def device_of(config: TrainingConfig) -> torch.device:
    """Return the GPU that this process was given, or the CPU.

    Raises:
        ConfigurationError: a GPU is asked for, and this process sees none.
    """
    if config.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if config.device == "cuda":
        raise ConfigurationError(
            f"training.device 'cuda': torch {torch.__version__} sees no GPU here; install a build "
            "of torch for it, or train on the 'cpu'"
        )
    return torch.device("cpu")
