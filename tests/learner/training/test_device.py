"""Where training takes place, as far as a machine without a GPU can tell."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from learner.config import TrainingConfig
from learner.networks import NETWORKS, build_network
from learner.training.batch import Batch
from learner.training.device import device_of
from learner.training.step import Training
from protocol.errors import ConfigurationError
from tests.learner.spot_task import SIDE_PX, spot_examples

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_the_cpu_can_be_asked_for():
    assert device_of(TrainingConfig(device="cpu")) == torch.device("cpu")


@needs_no_gpu
def test_without_a_gpu_training_takes_the_cpu_unless_a_gpu_is_asked_for():
    assert device_of(TrainingConfig()) == torch.device("cpu")
    with pytest.raises(ConfigurationError, match="sees no GPU here"):
        device_of(TrainingConfig(device="cuda"))


@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_a_step_makes_is_made_where_the_weights_are(name: str):
    # Tensors of torch's device "meta" have shapes and no values, and refuse to meet any other's.
    meta = torch.device("meta")
    network = build_network(name, height_px=SIDE_PX, width_px=SIDE_PX)
    training = Training(network, TrainingConfig(), seed=0, device=meta)
    refiner = training.learned.refiner
    batch = spot_examples(8, refiner).newest(8).to(meta)
    assert all(getattr(batch, f.name).device == meta for f in dataclasses.fields(Batch))

    logit_B = training._augmented_logits(batch)
    loss = functional.binary_cross_entropy_with_logits(logit_B, batch.success_B)
    (loss + refiner.prior_loss()).backward()
    training.optimiser.step()
    snapshot = training.snapshot()

    assert snapshot.averaged(batch).device == meta
    assert all(p.device == meta == p.grad.device for p in training.learned.parameters())
