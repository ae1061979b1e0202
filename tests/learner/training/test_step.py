"""The training step on a task that can be learnt, and on one that cannot."""

from __future__ import annotations

import itertools
import math
import shutil

import numpy as np
import pytest
import torch

from learner.config import TrainingConfig
from learner.networks import build_network
from learner.training.example_set import ExampleSet
from learner.training.roc import area_under_curve
from learner.training.step import Training
from protocol.errors import TrainingDivergedError
from tests.learner.spot_task import SIDE_PX, make_examples, spot_examples, step_on


def make_training(**changes) -> Training:
    torch.manual_seed(0)
    network = build_network("patch", height_px=SIDE_PX, width_px=SIDE_PX)
    return Training(network, TrainingConfig(**({"batch_size": 64} | changes)), seed=0)


def mean_success(training: Training, examples: ExampleSet) -> float:
    training.average.eval()
    with torch.inference_mode():
        return float(training.average(examples.newest(10_000)).float().sigmoid().mean())


@pytest.mark.parametrize("bfloat16", [True, False])
def test_it_learns_where_grasps_succeed(bfloat16: bool):
    training = make_training(bfloat16=bfloat16)
    refiner = training.learned.refiner
    examples = spot_examples(200, refiner)
    held_out = spot_examples(100, refiner, seed=1)
    before = training.snapshot().evaluate(held_out).figures

    losses = [step_on(training, examples) for _ in range(60)]

    after = training.snapshot().evaluate(held_out).figures
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert after["held_out_loss"] < 0.5 * before["held_out_loss"]
    assert after["held_out_auc"] > 0.95
    assert (training.step_count, training.examples_seen) == (60, 60 * 64)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_it_learns_just_so_when_compiled():
    training = make_training(compile=True)
    examples = spot_examples(200, training.learned.refiner)
    losses = [step_on(training, examples) for _ in range(60)]
    assert training.learned.network._compiled_call_impl is not None
    assert training.snapshot().averaged.network._compiled_call_impl is None
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_balanced_batches_still_give_calibrated_probabilities():
    training = make_training(learning_rate=5e-3)
    examples = spot_examples(
        300, training.learned.refiner, success_share=0.1, labels_mean_something=False
    )
    assert 0.05 < examples.success_share < 0.15
    for _ in range(60):
        step_on(training, examples)
    assert mean_success(training, examples) == pytest.approx(examples.success_share, abs=0.05)


def test_what_is_released_is_the_mean_of_what_was_trained():
    training = make_training()
    examples = spot_examples(20, training.learned.refiner)
    bias = training.learned.network.head.out.bias
    step_on(training, examples)
    expected = float(bias.detach())  # the first step is taken over as it is
    for count in range(1, 5):
        step_on(training, examples)
        decay = (1 + count) / (10 + count)  # a short memory while there is little to remember
        expected = decay * expected + (1 - decay) * float(bias.detach())
    assert float(training.averaged.network.head.out.bias.detach()) == pytest.approx(expected)


def test_the_learning_rate_falls_to_its_final_value():
    config = {"learning_rate": 2e-3, "final_learning_rate": 2e-4, "decay_examples": 64 * 4}
    training = make_training(**config)
    examples = spot_examples(30, training.learned.refiner)
    rates = []
    for _ in range(6):
        step_on(training, examples)
        rates.append(training.optimiser.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(2e-3)
    assert rates == sorted(rates, reverse=True)
    assert rates[4:] == pytest.approx([2e-4, 2e-4])


def test_nothing_held_out_gives_no_figures():
    empty = make_examples()
    assert make_training().snapshot().evaluate(empty).figures == {}


def test_one_outcome_alone_has_a_loss_and_no_auc():
    training = make_training()
    failures = spot_examples(10, training.learned.refiner, success_share=0.0)
    assert set(training.snapshot().evaluate(failures).figures) == {
        "held_out_loss",
        "held_out_calibration_error",
    }


def test_a_figure_that_is_no_number_is_left_out():
    training = make_training()
    examples = spot_examples(10, training.learned.refiner)
    with torch.no_grad():
        next(training.averaged.network.parameters()).fill_(float("nan"))
    figures = training.snapshot().evaluate(examples).figures
    assert "held_out_loss" not in figures
    assert all(map(math.isfinite, figures.values()))


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "hardly a tie"])
def test_the_auc_is_the_share_of_pairs_in_the_right_order(levels: int):
    generator = torch.Generator().manual_seed(1)
    logit_B = torch.randint(0, levels, (60,), generator=generator).float()
    success_B = (torch.rand(60, generator=generator) < 0.3).float()
    succeeded, failed = logit_B[success_B == 1].tolist(), logit_B[success_B == 0].tolist()
    pairs = [
        1.0 if better > worse else 0.5 if better == worse else 0.0
        for better, worse in itertools.product(succeeded, failed)
    ]
    assert area_under_curve(logit_B, success_B) == pytest.approx(np.mean(pairs), abs=1e-9)


def test_the_auc_of_a_network_that_says_the_same_of_everything_is_a_half():
    assert area_under_curve(torch.zeros(9), torch.tensor([1.0] * 3 + [0.0] * 6)) == 0.5
    assert area_under_curve(torch.zeros(3), torch.ones(3)) is None


def test_a_loss_that_is_not_finite_changes_no_weight_and_ends_training():
    training = make_training()
    examples = spot_examples(100, training.learned.refiner)
    step_on(training, examples)
    with torch.no_grad():
        next(training.learned.network.parameters()).fill_(float("nan"))
    before = {name: value.clone() for name, value in training.average.state_dict().items()}
    with pytest.raises(TrainingDivergedError, match="step 1"):
        step_on(training, examples)
    assert training.step_count == 1
    for name, value in training.average.state_dict().items():
        assert torch.equal(value, before[name])
