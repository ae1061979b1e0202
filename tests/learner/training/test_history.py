"""Recorded stores as experience: alone, and beside live attempts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch

from learner.config import KeysConfig, LearnerConfig
from learner.networks import build_network
from learner.store.episode_store import EpisodeStore
from learner.store.export import export_store
from learner.training.batch import Batch
from learner.training.batch_statistics import BATCH_SIZE
from learner.training.calibration_rows import key_of
from learner.training.example_set import ExampleSet
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.history import History
from learner.training.mixture import Mixture
from learner.training.replay import Replay
from learner.training.step import Training
from learner.training.team import Team
from learner.training.trainer import history_of
from protocol.codec import encode_episode
from protocol.errors import ConfigurationError, StoreError
from tests.episodes import make_episode
from tests.learner.spot_task import (
    SIDE_PX,
    STORE_BYTES,
    TRUE_MAP,
    fill_store,
    make_examples,
    spot_examples,
)
from tests.stored_records import arrival


def make_config(folder: Path, **training) -> LearnerConfig:
    keys = KeysConfig(server_secret=folder, release_secret=folder, registry=folder)
    config = LearnerConfig(
        run_folder=folder, keys=keys, image_height_px=SIDE_PX, image_width_px=SIDE_PX
    )
    settings = {"batch_size": 20, "first_after_attempts": 10, "held_out_fraction": 0.0}
    return replace(
        config,
        training=replace(config.training, **(settings | training)),
        gateway=replace(config.gateway, max_store_bytes=STORE_BYTES),
    )


class Bench:
    """A history of forty attempts; live ones once it goes live."""

    def __init__(self, folder: Path, **training) -> None:
        fill_store(folder / "old", count=40, robot_id="old-arm")
        self.config = make_config(folder, history=(folder / "old",), **training)
        torch.manual_seed(0)
        network = build_network("patch", height_px=SIDE_PX, width_px=SIDE_PX)
        self.training = Training(network, self.config.training, seed=0)
        self.refiner = self.training.learned.refiner
        replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0)
        self.history = History(
            self.config.training.history, self.config, replay, self.refiner, Team()
        )
        self.mixture = self.mixed_with(make_examples(), attempts=0)

    def go_live(self) -> None:
        self.mixture = self.mixed_with(spot_examples(30, self.refiner), attempts=30)

    def mixed_with(self, live: ExampleSet, *, attempts: int, history_drawn: int = 0) -> Mixture:
        return Mixture(
            self.training,
            live,
            self.history,
            attempts=lambda: attempts,
            history_drawn=history_drawn,
        )

    def drawn(self, step: int) -> tuple[int, int]:
        """Return how many examples of a batch are recorded ones, and how many live."""
        return self.counted(self.mixture.draw(step))

    def drawn_aside(self, step: int) -> tuple[int, int]:
        """Return the same of a batch that statistics are measured on."""
        return self.counted(self.mixture.draw_aside(step, number=0))

    def counted(self, batch: Batch) -> tuple[int, int]:
        key = key_of(("old-arm", TRUE_MAP.digest()))
        recorded = int((batch.calibration_B == key).sum())
        return recorded, len(batch) - recorded


@pytest.mark.parametrize(("share", "expected"), [(0.25, (5, 15)), (0.5, (10, 10))])
def test_batches_are_mixed_in_the_ratio_that_is_stated(
    tmp_path: Path, share: float, expected: tuple[int, int]
):
    bench = Bench(tmp_path, history_share=share)
    bench.go_live()
    assert [bench.drawn(step) for step in range(5)] == [expected] * 5


def test_until_there_are_live_attempts_the_history_is_all_there_is(tmp_path: Path):
    bench = Bench(tmp_path)
    assert bench.drawn(0) == (20, 0)
    bench.go_live()
    assert bench.drawn(1) == (10, 10)


def test_a_history_that_is_worn_out_is_used_no_more(tmp_path: Path):
    bench = Bench(tmp_path, max_visits=1.0)
    bench.go_live()
    drawn = [bench.drawn(step) for step in range(6)]
    assert drawn == [(10, 10)] * 4 + [(0, 20)] * 2
    assert not bench.mixture.has_history(6)


def test_a_resumed_run_knows_that_its_history_is_worn_before_the_first_batch(tmp_path: Path):
    bench = Bench(tmp_path, max_visits=2.0)
    mixture = bench.mixed_with(make_examples(), attempts=0, history_drawn=80)
    mixture.prepare(Event())
    assert not mixture.has_history(0)


def test_a_batch_that_is_drawn_ahead_of_the_first_live_attempt_is_of_the_worn_history(
    tmp_path: Path,
):
    bench = Bench(tmp_path, max_visits=1.0)
    assert [bench.drawn(step) for step in range(4)] == [(20, 0)] * 4
    assert not bench.mixture.has_history(4)


def test_a_few_live_attempts_of_many_examples_do_not_end_the_time_of_the_history_alone(
    tmp_path: Path,
):
    bench = Bench(tmp_path)
    bench.mixture = bench.mixed_with(spot_examples(30, bench.refiner), attempts=9)
    assert bench.drawn(0) == (20, 0)
    bench.mixture = bench.mixed_with(spot_examples(30, bench.refiner), attempts=10)
    assert bench.drawn(1) == (10, 10)


def test_a_batch_drawn_ahead_does_not_count_as_used(tmp_path: Path):
    bench = Bench(tmp_path)
    bench.mixture.draw(0)
    assert [bench.mixture.history_drawn(step) for step in (0, 1)] == [0, 20]
    bench.mixture.draw(1)
    assert [bench.mixture.history_drawn(step) for step in (1, 2)] == [20, 40]


def test_statistics_are_measured_on_the_mixture_of_the_steps_and_use_none_of_it_up(tmp_path: Path):
    bench = Bench(tmp_path, max_visits=1.0, history_share=0.25)
    assert not bench.mixture.has_examples
    assert bench.drawn(0) == (20, 0)
    assert bench.mixture.has_examples
    assert bench.drawn_aside(0) == (BATCH_SIZE, 0)
    bench.go_live()
    assert bench.drawn(1) == (5, 15)
    quarter = BATCH_SIZE // 4
    assert [bench.drawn_aside(1) for _ in range(20)] == [(quarter, BATCH_SIZE - quarter)] * 20
    assert bench.mixture.history_drawn(2) == 5
    worn = next(step for step in range(2, 100) if bench.drawn(step) == (0, 20))
    assert bench.drawn_aside(worn) == (0, BATCH_SIZE)


def test_a_step_measures_its_statistics_on_batches_that_no_step_draws(tmp_path: Path):
    bench = Bench(tmp_path)
    bench.go_live()
    bench.mixture.draw(0)
    drawn = [bench.mixture.draw_aside(step, number) for step in (0, 1) for number in (0, 1)]
    again = bench.mixture.draw_aside(0, 1)
    assert torch.equal(drawn[1].place_B, again.place_B)
    places = [tuple(batch.place_B.tolist()) for batch in drawn]
    assert len(set(places)) == 4


def test_reading_the_history_ends_when_training_is_told_to_stop(tmp_path: Path):
    bench = Bench(tmp_path)
    stopping = Event()
    stopping.set()
    bench.history.advance_to(0, stopping)
    assert not len(bench.history.examples)
    bench.history.advance_to(0)
    assert len(bench.history.examples) == 40


def test_what_is_read_by_a_step_depends_on_the_seed_alone(tmp_path: Path):
    first, again = Bench(tmp_path / "a"), Bench(tmp_path / "b")
    again.history.read_all()
    for step in range(3):
        one, other = first.mixture.draw(step), again.mixture.draw(step)
        assert torch.equal(one.image_BHWC, other.image_BHWC)
        assert torch.equal(one.pose_B4, other.pose_B4)


def test_a_store_of_pictures_of_another_size_is_refused_before_anything_starts(tmp_path: Path):
    bench = Bench(tmp_path)
    bench.history.close()
    other = replace(bench.config, image_width_px=48)
    with pytest.raises(ConfigurationError, match=r"old: pictures of 32 x 32 px .* says 32 x 48"):
        History(
            [tmp_path / "old"],
            other,
            Replay(height_px=32, width_px=48, held_out_fraction=0.0),
            bench.refiner,
            Team(),
        )


def test_a_store_that_is_named_twice_is_said(tmp_path: Path):
    bench = Bench(tmp_path, held_out_fraction=0.0)
    twice = replace(
        bench.config,
        training=replace(
            bench.config.training, history=(tmp_path / "old", tmp_path / "x" / ".." / "old")
        ),
    )
    with pytest.raises(ConfigurationError, match="old: this store is named twice"):
        history_of(twice, bench.training)


def test_the_learners_own_store_is_no_history(tmp_path: Path):
    bench = Bench(tmp_path)
    own = replace(bench.config, gateway=replace(bench.config.gateway, store=tmp_path / "old"))
    with pytest.raises(ConfigurationError, match="is the learner's own store"):
        history_of(own, bench.training)


def test_a_store_that_is_not_there_is_said(tmp_path: Path):
    bench = Bench(tmp_path)
    with pytest.raises(StoreError, match="none yet"):
        History(
            [tmp_path / "no"],
            bench.config,
            Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0),
            bench.refiner,
            Team(),
        )


def test_a_store_of_one_robot_of_many_is_read_before_the_first_step(tmp_path: Path):
    whole = EpisodeStore(tmp_path / "whole", STORE_BYTES)
    for index in range(60):
        episode = make_episode("arm-1", seed=index, steps=1, side_px=SIDE_PX)
        others = [arrival(100 * index + k, b"x", robot="arm-2") for k in range(1, 100)]
        whole.commit([arrival(index + 1, encode_episode(episode), robot="arm-1"), *others])
    whole.close()
    export_store(tmp_path / "whole", tmp_path / "own", robot="arm-1")

    replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0)
    config = make_config(tmp_path)
    history = History([tmp_path / "own"], config, replay, HandEyeRefiner(), Team())
    history.advance_to(0)
    history.close()
    assert replay.attempts == 60
    assert history.is_read


def test_what_two_recorded_stores_hold_is_read_once(tmp_path: Path):
    # The same robot, spool and sequences: as of a robot that moved while acks were lost.
    fill_store(tmp_path / "first", count=30)
    fill_store(tmp_path / "second", count=50)
    folders = (tmp_path / "first", tmp_path / "second")
    replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0)
    history = History(folders, make_config(tmp_path), replay, Bench(tmp_path).refiner, Team())
    history.read_all()
    history.close()
    assert replay.attempts == 50
