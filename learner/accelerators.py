"""Whether training gets GPUs of Ray, found out before anything starts."""

from __future__ import annotations

import logging
from dataclasses import replace

from learner.config import LearnerConfig
from learner.placement import nodes_in
from protocol.errors import ConfigurationError

logger = logging.getLogger(__name__)


def with_device(config: LearnerConfig) -> LearnerConfig:
    """Return the configuration with "cuda" or "cpu" in place of "auto". Ray must be there.

    Raises:
        ConfigurationError: GPUs are asked for, and the place of training has fewer than workers.
    """
    training = config.training
    if training.device == "cpu":
        return config
    there = sum(int(node["Resources"].get("GPU", 0)) for node in nodes_in(training.place))
    if there >= training.workers:
        return replace(config, training=replace(training, device="cuda"))
    lack = (
        f"{training.place or 'this node'} has {there} GPUs in all, and "
        f"training.workers {training.workers} need one each"
    )
    if training.device == "cuda":
        raise ConfigurationError(
            f"training.device 'cuda': {lack}; start Ray where they are, or train on the 'cpu'"
        )
    if there:
        logger.warning("training on the CPU: %s", lack)
    return replace(config, training=replace(training, device="cpu"))


def gpus_of_worker(config: LearnerConfig) -> int:
    """Return how many GPUs each worker asks Ray for, of a configuration ``with_device``."""
    return int(config.training.device == "cuda")
