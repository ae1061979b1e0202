"""Checkpoints: what was written is what goes on, or else the one before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from learner.config import TrainingConfig
from learner.networks import build_network
from learner.training.checkpoints import KEEP, Checkpoints
from learner.training.replay import ExampleSet
from learner.training.step import Training
from protocol.errors import ConfigurationError
from tests.learner.spot_task import SIDE_PX, TRUE_MAP, spot_episode, spot_examples


def make_training(name: str = "patch", *, side_px: int = SIDE_PX, seed: int = 0) -> Training:
    torch.manual_seed(seed)
    network = build_network(name, height_px=side_px, width_px=side_px)
    return Training(network, TrainingConfig(batch_size=16), seed=seed)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(folder=tmp_path / "checkpoints", network="patch")


def trained(steps: int = 3) -> tuple[Training, ExampleSet]:
    training = make_training()
    examples = spot_examples(20, training.learned.refiner)
    for _ in range(steps):
        training.step(examples)
    return training, examples


def test_training_goes_on_to_the_bit_as_if_it_had_not_been_interrupted(checkpoints: Checkpoints):
    training, examples = trained()
    checkpoints.save(training, release_version=4)
    expected = [training.step(examples) for _ in range(3)]
    figures = training.evaluate(examples)

    resumed = make_training(seed=99)
    assert checkpoints.restore_newest(resumed) == 4
    assert (resumed.step_count, resumed.examples_seen) == (3, 48)

    assert [resumed.step(examples) for _ in range(3)] == expected
    assert resumed.evaluate(examples) == figures


def test_robots_keep_their_maps(checkpoints: Checkpoints):
    training, _ = trained()
    with torch.no_grad():
        training.averaged.refiner.correction_R24[0, 0, 3] = 0.4
    checkpoints.save(training, release_version=1)
    resumed = make_training(seed=99)
    checkpoints.restore_newest(resumed)
    assert resumed.averaged.refiner.refined_maps({}) == training.averaged.refiner.refined_maps({})
    again = spot_episode(np.random.default_rng(0), success=True, robot_id="robot-0")
    assert resumed.learned.refiner.index_of(again) == 0
    another = spot_episode(np.random.default_rng(0), success=True, robot_id="robot-9")
    assert resumed.averaged.refiner.index_of(another) == 1
    assert another.calibration.tolist() == TRUE_MAP.matrix.tolist()


def test_nothing_to_restore_changes_nothing(checkpoints: Checkpoints):
    training = make_training()
    assert checkpoints.restore_newest(training) == 0
    assert training.step_count == 0


def test_the_oldest_checkpoints_are_dropped(checkpoints: Checkpoints):
    training, examples = trained(steps=1)
    for version in range(KEEP + 2):
        training.step(examples)
        checkpoints.save(training, release_version=version)
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == [f"{step:09d}.safetensors" for step in (4, 5, 6)]


@pytest.mark.parametrize("kept_bytes", [0, 5, 3000, -1])
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(
    checkpoints: Checkpoints, kept_bytes: int, caplog: pytest.LogCaptureFixture
):
    training, examples = trained()
    checkpoints.save(training, release_version=1)
    training.step(examples)
    newest = checkpoints.save(training, release_version=2)
    newest.write_bytes(newest.read_bytes()[:kept_bytes])

    resumed = make_training(seed=99)

    assert checkpoints.restore_newest(resumed) == 1
    assert resumed.step_count == 3
    assert f"{newest} is damaged" in caplog.text


def test_a_file_that_was_never_finished_is_not_looked_at(checkpoints: Checkpoints):
    training, _ = trained()
    checkpoints.save(training, release_version=1)
    (checkpoints.folder / "000000099.partial").write_bytes(b"half a check")
    assert checkpoints.restore_newest(make_training()) == 1


@pytest.mark.parametrize(
    ("other", "side_px", "words"),
    [("levine2016", SIDE_PX, "network 'patch'.*'levine2016'"), ("patch", 48, "32x32 px.*48x48")],
)
def test_a_checkpoint_of_another_network_is_a_wrong_configuration(
    checkpoints: Checkpoints, other: str, side_px: int, words: str
):
    training, _ = trained()
    checkpoints.save(training, release_version=1)
    mine = Checkpoints(folder=checkpoints.folder, network=other)
    with pytest.raises(ConfigurationError, match=words):
        mine.restore_newest(make_training(other, side_px=side_px))


def test_a_checkpoint_of_another_version_of_the_network_is_a_wrong_configuration(
    checkpoints: Checkpoints,
):
    training, _ = trained()
    path = checkpoints.save(training, release_version=1)
    rewrite_without(path, "learned.network.head.out.bias")
    with pytest.raises(ConfigurationError, match=r"does not fit network 'patch'.*head\.out\.bias"):
        checkpoints.restore_newest(make_training())


def rewrite_without(path: Path, key: str) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors[key]
    save_file(tensors, path, metadata=metadata)
