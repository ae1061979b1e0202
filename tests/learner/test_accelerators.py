"""Which devices a configuration gets of a Ray that has two GPUs, or says that it has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from learner.accelerators import gpus_of_worker, with_device
from learner.cluster import Head
from learner.config import KeysConfig, LearnerConfig, TrainingConfig
from learner.readiness import await_cluster
from protocol.errors import ConfigurationError


@pytest.fixture(scope="module", autouse=True)
def ray_with_two_gpus() -> Iterator[None]:
    # Ray counts GPUs and does not look at them.
    ray.init(
        num_cpus=4,
        num_gpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


def config_of(device: str, workers: int = 1) -> LearnerConfig:
    here = Path()
    return LearnerConfig(
        run_folder=here / "run",
        keys=KeysConfig(server_secret=here, release_secret=here, registry=here),
        training=TrainingConfig(device=device, workers=workers),
    )


@pytest.mark.parametrize(
    ("device", "workers", "given"),
    [("auto", 1, "cuda"), ("auto", 2, "cuda"), ("auto", 4, "cpu"), ("cpu", 1, "cpu")],
)
def test_each_worker_gets_a_gpu_of_its_own_or_none_does(device: str, workers: int, given: str):
    config = with_device(config_of(device, workers))
    assert config.training.device == given
    assert gpus_of_worker(config) == (given == "cuda")
    assert with_device(config) == config


def test_more_workers_than_gpus_are_refused_before_anything_starts():
    with pytest.raises(ConfigurationError, match=r"this node has 2 GPUs in all, and .* 4 need one"):
        await_cluster(config_of("cuda", workers=4), Head(), threading.Event())
