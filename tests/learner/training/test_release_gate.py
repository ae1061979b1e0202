"""The gate on releases, with real networks, on a task that can be learnt in seconds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor

from learner.config import TrainingConfig
from learner.networks import build_network
from learner.releases.builder import ReleaseBuilder
from learner.training.example_set import ExampleSet
from learner.training.learned import Learned
from learner.training.paired_difference import paired_difference
from learner.training.release_gate import FEWEST_ATTEMPTS, ReleaseGate
from learner.training.step import Training
from protocol.errors import RejectedReleaseError
from protocol.release import unpack_release
from protocol.release_manifest import RefinedMap, ReleaseManifest
from tests.learner.spot_task import (
    SIDE_PX,
    TRUE_MAP,
    make_examples,
    spot_episode,
    spot_examples,
    step_on,
)
from tests.releases import make_manifest


class Bench:
    """A training that knows the task, its gate, and held-out attempts."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        network = build_network("patch", height_px=SIDE_PX, width_px=SIDE_PX)
        self.training = Training(network, TrainingConfig(batch_size=32, bfloat16=False), seed=0)
        self.refiner = self.training.learned.refiner
        examples = spot_examples(100, self.refiner)
        self.early = self._train(examples, steps=12)
        self.late = self._train(examples, steps=25)
        self.held_out = spot_examples(60, self.refiner, seed=1)

    def _train(self, examples: ExampleSet, *, steps: int) -> dict[str, Tensor]:
        for _ in range(steps):
            step_on(self.training, examples)
        return copy_of(self.candidate.state_dict())

    @property
    def candidate(self) -> Learned:
        return self.training.averaged

    def gate(self, held_out: ExampleSet | None = None) -> ReleaseGate:
        return ReleaseGate(self.candidate.network, held_out or self.held_out)

    def manifest(self, version: int) -> ReleaseManifest:
        return make_manifest(version, hand_eye_maps=self.candidate.refiner.refined_maps({}))

    def release(self, gate: ReleaseGate, version: int = 11) -> None:
        """Release the candidate as it is."""
        gate.now_newest(self.manifest(version), copy_of(self.candidate.network.state_dict()))


def copy_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in state.items()}


@pytest.fixture(scope="module")
def trained() -> Bench:
    return Bench()


@pytest.fixture
def bench(trained: Bench) -> Bench:
    """Return the bench with the candidate that knows the task."""
    trained.candidate.load_state_dict(trained.late)
    return trained


def damage(bench: Bench) -> None:
    with torch.no_grad():
        for weight in bench.candidate.network.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)


def test_damaged_weights_are_held_back_and_the_figures_said(bench: Bench):
    gate = bench.gate()
    bench.release(gate)
    damage(bench)
    reason = gate.objection(bench.candidate)
    assert "of 60 attempts" in reason
    assert "worse than that of release 11 by" in reason


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_weights_that_are_no_numbers_to_work_with_are_held_back(bench: Bench, value: float):
    gate = bench.gate()
    bench.release(gate)
    with torch.no_grad():
        bench.candidate.network.head.out.bias.fill_(value)
    assert "worse" in gate.objection(bench.candidate)


def test_equal_and_better_weights_are_released_but_not_what_was_before_them(bench: Bench):
    gate = bench.gate()
    bench.candidate.load_state_dict(bench.early)
    bench.release(gate, 1)
    assert gate.objection(bench.candidate) == ""
    bench.candidate.load_state_dict(bench.late)
    assert gate.objection(bench.candidate) == ""
    bench.release(gate, 2)
    bench.candidate.load_state_dict(bench.early)
    assert "worse than that of release 2" in gate.objection(bench.candidate)


def test_a_candidate_that_became_the_release_is_judged_by_what_it_was_found_to_be(bench: Bench):
    gate = bench.gate()
    bench.candidate.load_state_dict(bench.early)
    bench.release(gate, 1)
    bench.candidate.load_state_dict(bench.late)
    assert gate.objection(bench.candidate) == ""
    known = dict(gate._losses_of_last)
    weights = copy_of(bench.candidate.network.state_dict())
    gate.now_newest(bench.manifest(2), weights, judged_last=True)
    assert gate._losses == known
    # What was taken over is what the release itself gives, as the robots have it.
    gate.now_newest(bench.manifest(2), weights)
    assert gate.objection(bench.candidate) == ""
    assert [gate._losses[place] for place in known] == pytest.approx(list(known.values()), abs=1e-5)


def test_candidates_are_judged_anew_each_time(bench: Bench):
    gate = bench.gate()
    bench.release(gate)
    damage(bench)
    assert gate.objection(bench.candidate)
    bench.candidate.load_state_dict(bench.late)
    assert gate.objection(bench.candidate) == ""


@pytest.mark.parametrize(("shift", "is_held_back"), [(1e-4, False), (0.5, True)])
def test_a_difference_that_is_sure_but_too_small_to_matter_holds_nothing_back(
    bench: Bench, shift: float, is_held_back: bool
):
    # Failures alone: a bias makes every prediction worse by about the same.
    gate = bench.gate(spot_examples(60, bench.refiner, success_share=0.0, seed=5))
    bench.release(gate)
    with torch.no_grad():
        bench.candidate.network.head.out.bias.add_(shift)
    assert bool(gate.objection(bench.candidate)) == is_held_back


def test_nothing_is_held_back_before_the_first_release(bench: Bench):
    damage(bench)
    assert bench.gate().objection(bench.candidate) == ""


@pytest.mark.parametrize("attempts", [0, FEWEST_ATTEMPTS - 1, FEWEST_ATTEMPTS])
def test_nothing_is_held_back_until_there_are_held_out_attempts_enough(bench: Bench, attempts: int):
    gate = ReleaseGate(bench.candidate.network, spot_examples(attempts, bench.refiner, seed=2))
    bench.release(gate)
    damage(bench)
    assert bool(gate.objection(bench.candidate)) == (attempts >= FEWEST_ATTEMPTS)


def test_held_out_attempts_that_came_since_count(bench: Bench):
    held_out = spot_examples(30, bench.refiner, seed=3)
    gate = bench.gate(held_out)
    bench.release(gate)
    assert gate.objection(bench.candidate) == ""
    rng = np.random.default_rng(4)
    for index in range(10):
        episode = spot_episode(rng, success=index % 2 == 0, robot_id="robot-0")
        held_out.add(episode, bench.refiner.key_of(episode))
    damage(bench)
    assert "of 40 attempts" in gate.objection(bench.candidate)


def test_a_release_is_judged_with_the_hand_eye_maps_that_it_gave_to_the_robots(bench: Bench):
    gate = bench.gate()
    blind = RefinedMap(calibration_digest=TRUE_MAP.digest(), matrix=[0.0] * 11 + [1.0])
    manifest = make_manifest(11, hand_eye_maps={"robot-0": blind})
    bench.candidate.load_state_dict(bench.late)
    gate.now_newest(manifest, copy_of(bench.candidate.network.state_dict()))
    bench.candidate.load_state_dict(bench.early)
    # As little as it has learnt by then, it does better than one that looks at the wrong place.
    assert gate.objection(bench.candidate) == ""
    bench.candidate.load_state_dict(bench.late)
    bench.release(gate)
    bench.candidate.load_state_dict(bench.early)
    assert gate.objection(bench.candidate) != ""


def test_weights_of_another_network_are_refused_and_judge_nothing(bench: Bench):
    gate = bench.gate()
    other = build_network("levine2016", height_px=SIDE_PX, width_px=SIDE_PX)
    with pytest.raises(RejectedReleaseError, match="release 14"):
        gate.now_newest(bench.manifest(14), other.state_dict())
    damage(bench)
    assert gate.objection(bench.candidate) == ""


def test_steps_of_one_attempt_count_as_one():
    generator = torch.Generator().manual_seed(0)
    of_attempt = torch.randn(50, generator=generator)
    alone = paired_difference(of_attempt, torch.arange(50))
    steps = of_attempt.repeat_interleave(8)
    repeated = paired_difference(steps, torch.arange(50).repeat_interleave(8))
    assert repeated.attempts == alone.attempts == 50
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))
    naive = paired_difference(steps, torch.arange(400))
    assert naive.high - naive.low < 0.5 * (alone.high - alone.low)


def test_the_interval_holds_the_truth_nineteen_times_out_of_twenty():
    generator = torch.Generator().manual_seed(1)
    hits = 0
    for _ in range(400):
        shared = torch.randn(60, generator=generator).repeat_interleave(4)
        own = torch.randn(240, generator=generator)
        found = paired_difference(0.3 + shared + own, torch.arange(60).repeat_interleave(4))
        hits += found.low <= 0.3 <= found.high
    assert 0.91 < hits / 400 < 0.98


def test_only_a_release_of_the_same_network_is_compared_with():
    names = ("patch", "levine2016")
    networks = {name: build_network(name, height_px=64, width_px=64) for name in names}
    builders = {name: ReleaseBuilder(network) for name, network in networks.items()}
    key = Ed25519PrivateKey.generate()
    for of, training in itertools.product(names, names):
        state = networks[of].state_dict()
        data = builders[of].build(state, make_manifest(7, size_px=64), key)
        release = unpack_release(data, key.public_key())
        gate = ReleaseGate(networks[training], make_examples())
        weights = builders[training].weights_of(release)
        if of == training:
            gate.now_newest(release.manifest, weights)
        else:
            with pytest.raises(RejectedReleaseError, match="release 7: it is of another network"):
                gate.now_newest(release.manifest, weights)
