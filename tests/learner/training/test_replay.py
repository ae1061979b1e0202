"""The replay: what an attempt becomes as training examples."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from learner.training.example_set import ExampleSet
from learner.training.replay import Replay
from protocol.episode import Action, Label
from robot_agent.grasp_outcome import aborted
from tests.episodes import make_episode

SIDE_PX = 16


def episode(seed: int, **changes):
    return make_episode(seed=seed, side_px=SIDE_PX, **changes)


def make_set(**settings) -> ExampleSet:
    size = {"height_px": SIDE_PX, "width_px": SIDE_PX, "max_bytes": 10_000_000}
    return ExampleSet(**(size | settings))


def make_replay(held_out_fraction: float = 0.0) -> Replay:
    return Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=held_out_fraction)


def test_every_step_becomes_an_example_that_leads_to_the_commanded_final_pose():
    examples = make_set()
    one = episode(3, steps=4)
    examples.add(one, 7)

    batch = examples.newest(limit=100)

    assert len(examples) == len(batch) == 4
    for index, step in enumerate(one.steps):
        np.testing.assert_array_equal(batch.first_image_BHWC[index], one.first_image)
        np.testing.assert_array_equal(batch.image_BHWC[index], step.observation.image)
        np.testing.assert_array_equal(batch.pose_B4[index], step.observation.pose.as_array())
        action = Action.between(step.observation.pose, one.final_pose)
        np.testing.assert_array_equal(batch.action_B5[index], action.as_array())
    last = one.steps[-1]
    np.testing.assert_allclose(batch.action_B5[3], last.commanded.as_array(), atol=1e-6)
    assert batch.robot_B.tolist() == [7] * 4
    assert batch.success_B.tolist() == [1.0] * 4


def test_samples_have_the_shapes_and_types_that_training_expects():
    examples = make_set()
    examples.add(episode(1), 0)
    batch = examples.sample(5, np.random.default_rng(0))
    shapes = {
        "first_image_BHWC": ((5, SIDE_PX, SIDE_PX, 3), torch.uint8),
        "image_BHWC": ((5, SIDE_PX, SIDE_PX, 3), torch.uint8),
        "pose_B4": ((5, 4), torch.float32),
        "action_B5": ((5, 5), torch.float32),
        "robot_B": ((5,), torch.int64),
        "success_B": ((5,), torch.float32),
    }
    for name, (shape, kind) in shapes.items():
        tensor = getattr(batch, name)
        assert (tuple(tensor.shape), tensor.dtype) == (shape, kind), name


def test_half_of_every_batch_succeeded_however_rare_success_is():
    examples = make_set()
    for seed in range(20):
        examples.add(episode(seed, steps=1, success=seed == 0), 0)
    batch = examples.sample(64, np.random.default_rng(0))
    assert int(batch.success_B.sum()) == 32
    assert examples.success_share == pytest.approx(0.05)


@pytest.mark.parametrize("success", [True, False])
def test_one_outcome_alone_can_be_sampled(success: bool):
    examples = make_set()
    examples.add(episode(1, success=success), 0)
    batch = examples.sample(8, np.random.default_rng(0))
    assert batch.success_B.tolist() == [float(success)] * 8


def test_labels_and_pictures_stay_together_through_many_attempts():
    # Beyond the first capacity, so that every array has grown.
    examples = make_set()
    template = episode(0, steps=4)
    for index in range(700):
        picture = np.full((SIDE_PX, SIDE_PX, 3), index % 251, np.uint8)
        label = Label.SUCCESS if index % 3 == 0 else Label.FAILURE
        examples.add(
            replace(template, first_image=picture, outcome=replace(template.outcome, label=label)),
            index,
        )
    batch = examples.sample(512, np.random.default_rng(0))
    assert len(examples) == 2800
    robots = batch.robot_B.numpy()
    np.testing.assert_array_equal(batch.first_image_BHWC[:, 0, 0, 0].numpy(), robots % 251)
    np.testing.assert_array_equal(batch.success_B.numpy(), robots % 3 == 0)


def test_the_newest_examples_are_evaluated():
    examples = make_set()
    for index in range(30):
        examples.add(episode(index, steps=1, success=index % 2 == 0), index)
    batch = examples.newest(limit=10)
    assert sorted(batch.robot_B.tolist()) == list(range(20, 30))


def test_aborted_attempts_teach_nothing():
    replay = make_replay()
    replay.add(replace(episode(1), outcome=aborted("servo 3 does not answer")), 0)
    replay.add(replace(episode(2), outcome=aborted("no picture"), steps=()), 0)
    assert (replay.attempts, len(replay.training)) == (0, 0)


def test_a_restarted_learner_holds_out_the_same_attempts():
    def held_out(order: list[int]) -> tuple[int, set[int]]:
        replay = make_replay(held_out_fraction=0.3)
        for seed in order:
            replay.add(episode(seed, steps=1), seed)
        return replay.attempts, set(replay.held_out.newest(1000).robot_B.tolist())

    attempts, first = held_out(list(range(100)))
    _, again = held_out(list(reversed(range(100))))

    assert attempts == 100
    assert first == again
    assert 15 <= len(first) <= 45


def test_no_step_of_a_held_out_attempt_is_trained_on():
    replay = make_replay(held_out_fraction=0.5)
    for seed in range(40):
        replay.add(episode(seed, steps=3), seed)
    trained = set(replay.training.newest(1000).robot_B.tolist())
    held_out = set(replay.held_out.newest(1000).robot_B.tolist())
    assert not trained & held_out
    assert len(trained | held_out) == 40


def test_one_thread_may_sample_while_another_adds():
    examples = make_set()
    template = episode(0, steps=2)
    examples.add(replace(template, first_image=np.zeros_like(template.first_image)), 0)

    def add() -> None:
        for index in range(1, 2000):
            picture = np.full((SIDE_PX, SIDE_PX, 3), index % 251, np.uint8)
            examples.add(replace(template, first_image=picture), index)

    adding = threading.Thread(target=add)
    adding.start()
    rng = np.random.default_rng(0)
    while adding.is_alive():
        batch = examples.sample(64, rng)
        np.testing.assert_array_equal(
            batch.first_image_BHWC[:, 0, 0, 0].numpy(), batch.robot_B.numpy() % 251
        )
    adding.join()
    assert len(examples) == 4000
