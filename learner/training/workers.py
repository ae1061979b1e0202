"""Several processes that train one network, under Ray Train."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from learner.accelerators import gpus_of_worker
from learner.config import LearnerConfig
from learner.logs import configure_logs
from learner.placement import in_place, nodes_in
from learner.training.team import Team
from protocol.errors import ConfigurationError

Work = Callable[[Team], None]
"""What each worker does; it and all it holds travel to the workers' processes."""


def run_team(config: LearnerConfig, work: Work) -> None:
    """Run ``work`` in ``training.workers`` processes until it ends in all of them.

    Ray must be there. Gradients go through gloo, between GPUs through nccl; a failure of one ends
    all, and training is resumed from its checkpoint by whoever called.

    Raises:
        ConfigurationError: see ``check_workers``.
        ray.train.v2.api.exceptions.TrainingFailedError: with what ended a worker.
    """
    check_workers(config)
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    # The metrics are our own; Ray's would want its dashboard.
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    has_gpus = gpus_of_worker(config) > 0
    trainer = TorchTrainer(
        _work,
        train_loop_config={"work": work, "log_level": config.log_level},
        # What workers tell each other beside gradients stays in ordinary memory.
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if has_gpus else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=config.training.workers,
            use_gpu=has_gpus,
            resources_per_worker={"CPU": 1} | in_place(config.training.place),
        ),
        run_config=train.RunConfig(
            name="workers", storage_path=str(Path(config.run_folder).resolve() / "ray_train")
        ),
    )
    trainer.fit()


def check_workers(config: LearnerConfig) -> None:
    """Return if as many workers as configured can train. Ray must be there.

    Raises:
        ConfigurationError: the place of training has fewer cores than workers, or Ray Train is not
            installed.
    """
    workers, place = config.training.workers, config.training.place
    if workers == 1:
        return
    try:
        # Not installed unless it is wanted: it brings pandas and Arrow along.
        import ray.train.torch  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"training.workers {workers}: several need Ray Train ({error}); "
            "pip install 'graspfleet[workers]'"
        ) from error
    cores = sum(int(node["Resources"].get("CPU", 0)) for node in nodes_in(place))
    if cores < workers:
        raise ConfigurationError(
            f"training.workers {workers}: {place or 'this node'} has {cores} cores in all"
        )


def _work(job: dict[str, Any]) -> None:
    from ray import train
    from ray.train.torch import get_device

    configure_logs(job["log_level"])
    torch.set_num_threads(1)
    if (device := get_device()).type == "cuda":
        torch.cuda.set_device(device)
    context = train.get_context()
    job["work"](Team(rank=context.get_world_rank(), size=context.get_world_size()))
