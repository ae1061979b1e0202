"""What batch normalisation knows of averaged weights, and when nothing is drawn for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from learner.config import TrainingConfig
from learner.networks import GraspNetwork, build_network
from learner.training.batch import Batch
from learner.training.batch_statistics import (
    BATCH_SIZE,
    BATCHES,
    has_statistics,
    measure_statistics,
)
from learner.training.learned import Learned
from learner.training.step import Training
from tests.learner.spot_task import SIDE_PX, spot_examples, step_on
from tests.learner.training.normalised_patch import normalised_patch


class Bench:
    """A training with batch normalisation and dropout, some steps on its way."""

    def __init__(self, steps: int = 15) -> None:
        torch.manual_seed(0)
        config = TrainingConfig(batch_size=32, bfloat16=False)
        self.training = Training(normalised_patch(), config, seed=0)
        refiner = self.training.learned.refiner
        self.examples = spot_examples(100, refiner)
        self.held_out = spot_examples(60, refiner, seed=1)
        self.steps(steps)

    def steps(self, count: int) -> None:
        for _ in range(count):
            step_on(self.training, self.examples)

    def draw(self, number: int) -> Batch:
        training = self.training
        return training.sample_aside(self.examples, training.step_count, number, BATCH_SIZE)

    def states(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return what is trained, and its average."""
        return self.training.learned.state_dict(), self.training.average.state_dict()

    def measured(self) -> Learned:
        averaged = self.training.snapshot().averaged
        measure_statistics(averaged, self.draw)
        return averaged


@pytest.fixture(scope="module")
def bench() -> Bench:
    """Return a training that nobody takes further."""
    return Bench()


def normalised(learned: Learned, batch: Batch) -> list[Tensor]:
    """Return what comes out of each normalising layer, before its own scale and shift."""
    found = []

    def note(layer: nn.BatchNorm2d, _: tuple[Tensor], output: Tensor) -> None:
        scale, shift = (t[:, None, None] for t in (layer.weight, layer.bias))
        found.append((output - shift) / scale)

    layers = [layer for layer in learned.modules() if isinstance(layer, nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.inference_mode():
        learned.eval()(batch)
    for hook in hooks:
        hook.remove()
    return found


def furthest_from_normal(learned: Learned, batch: Batch) -> tuple[float, float]:
    """Return the largest mean of a channel, and the spread that is furthest from 1, as a ratio."""
    means = [values.mean(dim=(0, 2, 3)).abs().max() for values in normalised(learned, batch)]
    spreads = [values.std(dim=(0, 2, 3)) for values in normalised(learned, batch)]
    ratios = [torch.maximum(spread, 1 / spread).max() for spread in spreads]
    return float(max(means)), float(max(ratios))


def test_averaged_weights_are_normalised_by_what_they_make_of_examples(bench: Bench):
    fresh = bench.training.sample(bench.examples, step=10**6, count=512)
    mean, ratio = furthest_from_normal(bench.training.snapshot().averaged, fresh)
    own_mean, own_ratio = furthest_from_normal(bench.measured(), fresh)
    assert own_mean < 0.25 < mean
    assert own_ratio < 1.25 < ratio


def test_averaged_weights_predict_better_with_statistics_of_their_own(bench: Bench):
    snapshot = bench.training.snapshot()
    before = snapshot.evaluate(bench.held_out).figures
    measure_statistics(snapshot.averaged, bench.draw)
    after = snapshot.evaluate(bench.held_out).figures
    assert after["held_out_loss"] < 0.5 * before["held_out_loss"]


def test_the_same_step_measures_the_same_whatever_draws_random_numbers_meanwhile(bench: Bench):
    first = bench.measured().state_dict()
    torch.rand(3)
    state = torch.get_rng_state()
    again = bench.measured().state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)  # dropout of a step is not disturbed


def test_nothing_but_the_statistics_changes(bench: Bench):
    before = bench.training.snapshot().averaged.state_dict()
    after = bench.measured().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.rpartition(".")[2] for name in changed} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_training_goes_on_as_if_nothing_had_been_measured():
    disturbed, undisturbed = Bench(steps=3), Bench(steps=3)
    measure_statistics(disturbed.training.averaged, disturbed.draw)
    for bench in (disturbed, undisturbed):
        bench.steps(2)
    for state, expected in zip(disturbed.states(), undisturbed.states(), strict=True):
        assert all(torch.equal(value, expected[name]) for name, value in state.items())


def counted(training: Training, draw: Callable[[int], Batch]) -> list[int]:
    """Return the numbers of the batches that were drawn to measure the average."""
    numbers = []

    def counting(number: int) -> Batch:
        numbers.append(number)
        return draw(number)

    measure_statistics(training.snapshot().averaged, counting)
    return numbers


def test_a_network_without_batch_normalisation_draws_no_batch(bench: Bench):
    network = build_network("patch", height_px=SIDE_PX, width_px=SIDE_PX)
    training = Training(network, TrainingConfig(), seed=0)
    assert not has_statistics(network)
    assert counted(training, bench.draw) == []
    assert has_statistics(bench.training.learned.network)
    assert counted(bench.training, bench.draw) == list(range(BATCHES))


def test_the_networks_that_have_statistics_are_known():
    def built(name: str) -> GraspNetwork:
        return build_network(name, height_px=SIDE_PX, width_px=SIDE_PX)

    assert {name: has_statistics(built(name)) for name in ("patch", "levine2016")} == {
        "patch": False,
        "levine2016": True,
    }
