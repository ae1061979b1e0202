"""The replay feed: what it makes of records that cannot be trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from learner.config import GatewayConfig
from learner.store.episode_store import EpisodeStore
from learner.store.retention import RetentionLimits
from learner.store.stored_episode import Arrival, RecordKey
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.replay import Replay
from learner.training.replay_feed import ReplayFeed
from protocol.codec import digest, encode_episode
from protocol.episode import Episode
from tests.delivery_site import wait_until
from tests.episodes import make_episode
from tests.stored_records import wipe_trees

STORE_BYTES = 2**27
SIDE_PX = 64


def store(folder: Path, episodes: list[Episode]) -> None:
    opened = EpisodeStore(folder, STORE_BYTES)
    for sequence, episode in enumerate(episodes, start=1):
        record = encode_episode(episode)
        key = RecordKey(robot_id=episode.robot_id, spool_id=bytes(16), sequence=sequence)
        opened.commit([Arrival(key=key, digest=digest(record), record=record, letter="s")])
    opened.close()


@contextmanager
def feeding(folder: Path) -> Iterator[tuple[ReplayFeed, Replay]]:
    replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0)
    config = GatewayConfig(store=folder, max_store_bytes=STORE_BYTES)
    feed = ReplayFeed(config, replay, HandEyeRefiner())
    feed.start()
    try:
        yield feed, replay
    finally:
        feed.close()


def test_pictures_of_another_size_are_left_out_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    good = [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(3)]
    store(tmp_path, [good[0], make_episode("arm-2", seed=9, side_px=128), *good[1:]])
    with feeding(tmp_path) as (feed, replay):
        assert feed.caught_up.wait(20.0)
        feed.check()
        assert replay.attempts == 3
    assert "pictures of 128 x 128 px" in caplog.text
    assert "arm-2" in caplog.text


def test_it_says_when_everything_stored_before_has_been_read(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(100)])
    with feeding(tmp_path) as (feed, replay):
        assert feed.caught_up.wait(20.0)
        assert replay.attempts == 100


def test_a_store_that_breaks_while_training_runs_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store(tmp_path, [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(5)])
    with feeding(tmp_path) as (feed, replay):
        assert feed.caught_up.wait(20.0)
        wipe_trees(tmp_path)
        wait_until(lambda: "no more episodes can be read" in caplog.text, "it is said")
        feed.check()
        assert replay.attempts == 5
    assert caplog.text.count("no more episodes can be read") == 1


def test_a_store_that_cannot_be_read_is_not_one_that_was_read_to_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store(tmp_path, [make_episode("arm-1", side_px=SIDE_PX)])
    replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0)
    config = GatewayConfig(store=tmp_path, max_store_bytes=STORE_BYTES)
    feed = ReplayFeed(config, replay, HandEyeRefiner())
    wipe_trees(tmp_path)
    feed.start()
    wait_until(lambda: "no more episodes can be read" in caplog.text, "it is said")
    feed.close()
    assert not feed.caught_up.is_set()


def test_it_reads_on_past_episodes_that_were_retired(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(40)])
    writer = EpisodeStore(tmp_path, STORE_BYTES, keep=RetentionLimits(log_bytes=300_000))
    while writer.retire_some():
        pass
    kept = 40 - writer.ledger("arm-1").retired
    writer.close()
    assert 1 < kept < 40
    with feeding(tmp_path) as (feed, replay):
        assert feed.caught_up.wait(20.0)
        assert replay.attempts == kept
