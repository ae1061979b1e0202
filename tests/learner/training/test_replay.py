"""The replay: what an attempt becomes as training examples."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from learner.config import KeysConfig, LearnerConfig, TrainingConfig
from learner.training.example_set import ExampleSet, row_bytes
from learner.training.replay import Replay, replay_of
from protocol.episode import Action, Label
from protocol.errors import ConfigurationError
from robot_agent.attempts.grasp_outcome import aborted
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
    assert batch.calibration_B.tolist() == [7] * 4
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
        "calibration_B": ((5,), torch.int64),
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
    robots = batch.calibration_B.numpy()
    np.testing.assert_array_equal(batch.first_image_BHWC[:, 0, 0, 0].numpy(), robots % 251)
    np.testing.assert_array_equal(batch.success_B.numpy(), robots % 3 == 0)


def test_the_newest_examples_are_evaluated():
    examples = make_set()
    for index in range(30):
        examples.add(episode(index, steps=1, success=index % 2 == 0), index)
    batch = examples.newest(limit=10)
    assert sorted(batch.calibration_B.tolist()) == list(range(20, 30))


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
        return replay.attempts, set(replay.held_out.newest(1000).calibration_B.tolist())

    attempts, first = held_out(list(range(100)))
    _, again = held_out(list(reversed(range(100))))

    assert attempts == 100
    assert first == again
    assert 15 <= len(first) <= 45


def test_no_step_of_a_held_out_attempt_is_trained_on():
    replay = make_replay(held_out_fraction=0.5)
    for seed in range(40):
        replay.add(episode(seed, steps=3), seed)
    trained = set(replay.training.newest(1000).calibration_B.tolist())
    held_out = set(replay.held_out.newest(1000).calibration_B.tolist())
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
            batch.first_image_BHWC[:, 0, 0, 0].numpy(), batch.calibration_B.numpy() % 251
        )
    adding.join()
    assert len(examples) == 4000


def marked(number: int, steps: int = 2, *, robot: str = "arm", success: bool = True):
    """Return an attempt whose first picture tells its number."""
    one = episode(number, steps=steps, success=success, robot_id=robot)
    return replace(one, first_image=np.full_like(one.first_image, number % 251))


def numbers_of(examples: ExampleSet) -> list[int]:
    """Return the numbers of the attempts that are held, oldest first."""
    found = examples.newest(10_000).first_image_BHWC[:, 0, 0, 0].tolist()
    return list(dict.fromkeys(found))


def set_of(pictures: int) -> ExampleSet:
    return make_set(max_bytes=pictures * row_bytes(height_px=SIDE_PX, width_px=SIDE_PX))


def test_a_full_set_lets_its_oldest_attempts_go():
    examples = set_of(pictures=30)
    for number in range(50):
        examples.add(marked(number, steps=1 + number % 4), number % 3)
    kept = numbers_of(examples)
    assert kept == list(range(kept[0], 50))
    assert examples.attempts == len(kept)
    drawn = examples.sample(2000, np.random.default_rng(0)).first_image_BHWC[:, 0, 0, 0]
    assert sorted(set(drawn.tolist())) == kept


def test_older_attempts_go_before_those_that_are_there_until_it_is_full():
    examples = set_of(pictures=30)
    for number in (100, 101):
        examples.add(marked(number), 0)
    added = [examples.add_older(marked(number), 0) for number in range(99, 80, -1)]
    assert added == [True] * 8 + [False] * 11
    assert numbers_of(examples) == list(range(92, 102))
    examples.add(marked(102), 0)
    assert numbers_of(examples) == list(range(93, 103))


def test_examples_keep_their_places_while_others_come_and_go():
    examples = set_of(pictures=30)
    examples.add(marked(50), 0)
    before = examples.newest(10)
    for number in range(49, 44, -1):
        examples.add_older(marked(number), 0)
    for number in range(51, 59):
        examples.add(marked(number), 0)
    after = examples.newest(100)
    for place, picture in zip(before.place_B, before.image_BHWC, strict=True):
        found = after.only(after.place_B == place)
        assert len(found) == 1
        assert torch.equal(found.image_BHWC[0], picture)


def test_no_attempt_older_than_is_wanted_is_kept():
    replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0, max_attempts=7)
    for number in range(20):
        replay.add(marked(number), 0)
    assert numbers_of(replay.training) == list(range(13, 20))
    assert replay.add_older(marked(12), 0) is None


def test_a_robot_that_was_heard_rarely_is_drawn_as_often_as_the_others():
    examples = make_set(most_repeats=100.0)
    for number in range(200):
        robot = 1 if number % 20 < 2 else 0
        examples.add(marked(number, robot=f"arm-{robot}", success=number % 2 == 0), robot)
    batch = examples.sample(4000, np.random.default_rng(0))
    share = float((batch.calibration_B == 1).float().mean())
    assert share == pytest.approx(0.5, abs=0.05)
    assert int(batch.success_B.sum()) == 2000


def test_a_robot_whose_attempts_have_all_gone_is_drawn_no_more():
    examples = set_of(pictures=30)
    examples.add(marked(0, steps=9, robot="gone"), 7)
    for number in range(1, 12):
        examples.add(marked(number, steps=1, robot=f"arm-{number}"), 3)
    assert examples.attempts == 11
    assert set(examples.sample(100, np.random.default_rng(0)).calibration_B.tolist()) == {3}


def test_a_robot_that_floods_takes_the_place_of_no_other_beyond_an_equal_share():
    examples = set_of(pictures=60)
    for number in range(10):
        examples.add(marked(number, robot=f"arm-{number % 2}"), number % 2)
    for number in range(10, 200):
        examples.add(marked(number, robot="flood", success=False), 2)
    held = examples.newest(1000).calibration_B
    assert [int((held == robot).sum()) for robot in range(3)] == [10, 10, 20]
    for number in range(200, 230):
        examples.add(marked(number, robot="arm-0"), 0)
    held = examples.newest(1000).calibration_B
    assert [int((held == robot).sum()) for robot in range(3)] == [14, 10, 16]
    assert examples.size_bytes <= examples.limit_bytes


def test_a_robot_that_has_left_the_fleet_makes_room_first(monkeypatch: pytest.MonkeyPatch):
    examples = set_of(pictures=30)
    for number in range(10):
        robot = int(number >= 5)
        examples.add(marked(number, robot=f"arm-{robot}"), robot)
    monkeypatch.setattr("learner.training.example_set.SILENT_S", -1.0)
    for number in range(10, 13):
        examples.add(marked(number, robot="arm-1"), 1)
    assert numbers_of(examples) == list(range(3, 13))


def test_a_release_is_judged_on_every_robots_newest_attempts_however_many_one_has():
    examples = make_set()
    for number in range(10):
        examples.add(marked(number, robot=f"arm-{number % 2}"), number % 2)
    for number in range(10, 100):
        examples.add(marked(number, robot="flood"), 2)
    batch = examples.newest(24)
    assert [int((batch.calibration_B == robot).sum()) for robot in range(3)] == [8, 8, 8]
    assert batch.place_B.tolist() == sorted(batch.place_B.tolist())
    assert set(batch.first_image_BHWC[:, 0, 0, 0].tolist()) == {*range(2, 10), *range(96, 100)}


def test_nothing_older_is_added_once_something_has_gone():
    examples = set_of(pictures=12)
    examples.add(marked(2, steps=5), 0)
    assert examples.add_older(marked(1, steps=5), 0)
    examples.add(marked(3, steps=1), 0)  # in the place of the first
    assert not examples.add_older(marked(0, steps=1), 0)
    assert numbers_of(examples) == [2, 3]


@pytest.mark.parametrize("count", [1, 3])
def test_an_odd_example_is_a_success_as_often_as_a_failure(count: int):
    examples = make_set()
    for number in range(40):
        examples.add(marked(number, success=number % 4 == 0), 0)
    share = np.mean(
        [
            examples.sample(count, np.random.default_rng(seed)).success_B.mean().item()
            for seed in range(400)
        ]
    )
    assert share == pytest.approx(0.5, abs=0.1)


def test_memory_without_room_for_what_a_release_is_judged_on_is_refused(tmp_path):
    keys = KeysConfig(server_secret=tmp_path, release_secret=tmp_path, registry=tmp_path)
    config = LearnerConfig(run_folder=tmp_path, keys=keys)
    small = replace(config.training, replay_bytes=50_000_000)
    with pytest.raises(ConfigurationError, match="held-out pictures fit, and the 20 attempts"):
        replay_of(replace(config, training=small))
    assert replay_of(replace(config, training=replace(small, held_out_fraction=0.0)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"replay_attempts": 399}, "20 or more"),
        ({"held_out_fraction": 1.0}, "leaves nothing to train on"),
        ({"batch_size": 1}, "each needs two examples"),
        ({"batch_size": 4, "workers": 4}, "each needs two examples"),
        ({"history": ("a",), "history_share": 0.001}, "give a part of each batch"),
        ({"history": ("a",), "history_share": 0.999}, "give a part of each batch"),
    ],
)
def test_limits_that_would_silently_switch_something_off_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        TrainingConfig(**settings)


def test_a_small_replay_without_anything_held_out_is_allowed():
    assert TrainingConfig(replay_attempts=7, held_out_fraction=0.0).replay_attempts == 7


def test_memory_is_bounded_as_configured(tmp_path):
    keys = KeysConfig(server_secret=tmp_path, release_secret=tmp_path, registry=tmp_path)
    config = LearnerConfig(run_folder=tmp_path, keys=keys)
    for wrong, words in ((10**6, "pictures fit, fewer than"), (10**15, "bytes of memory in all")):
        training = replace(config.training, replay_bytes=wrong)
        with pytest.raises(ConfigurationError, match=words):
            replay_of(replace(config, training=training))
