"""The replay feed: what it makes of records that cannot be trained on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch

from learner.config import GatewayConfig
from learner.store.episode_store import EpisodeStore
from learner.store.retention import RetentionLimits
from learner.store.stored_episode import Arrival, RecordKey
from learner.training.example_set import row_bytes
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.replay import Replay
from learner.training.replay_feed import Counted, ReplayFeed
from learner.training.team import Team
from protocol.codec import digest, encode_episode
from protocol.episode import Episode
from protocol.hand_eye import HandEyeMap
from tests.delivery_site import ROOT
from tests.episodes import make_episode
from tests.stored_records import wipe_trees
from tests.waiting import PATIENCE_S, wait_until

STORE_BYTES = 2**27
SIDE_PX = 64


def store(folder: Path, episodes: list[Episode], *, first_sequence: int = 1) -> None:
    opened = EpisodeStore(folder, STORE_BYTES)
    for sequence, episode in enumerate(episodes, start=first_sequence):
        record = encode_episode(episode)
        key = RecordKey(robot_id=episode.robot_id, spool_id=bytes(16), sequence=sequence)
        opened.commit([Arrival(key=key, digest=digest(record), record=record, letter="s")])
    opened.close()


@contextmanager
def feeding(
    folder: Path, *, max_bytes: int = 10**8, **rest: Any
) -> Iterator[tuple[ReplayFeed, Replay]]:
    replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0, max_bytes=max_bytes)
    config = GatewayConfig(store=folder, max_store_bytes=STORE_BYTES)
    feed = ReplayFeed([config], replay, HandEyeRefiner(), **rest)
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
        assert feed.caught_up.wait(PATIENCE_S)
        feed.check()
        assert replay.attempts == 3
    assert "pictures of 128 x 128 px" in caplog.text
    assert "arm-2" in caplog.text


def test_it_says_when_everything_stored_before_has_been_read(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(100)])
    with feeding(tmp_path) as (feed, replay):
        assert feed.caught_up.wait(PATIENCE_S)
        assert replay.attempts == 100


def test_a_store_that_breaks_while_training_runs_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store(tmp_path, [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(5)])
    with feeding(tmp_path) as (feed, replay):
        assert feed.caught_up.wait(PATIENCE_S)
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
    feed = ReplayFeed([config], replay, HandEyeRefiner())
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
        assert feed.caught_up.wait(PATIENCE_S)
        assert replay.attempts == kept


def test_the_newest_are_read_first_and_kept_when_not_all_fit(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed, steps=1, side_px=64) for seed in range(900)])
    rows = row_bytes(height_px=SIDE_PX, width_px=SIDE_PX)
    with feeding(tmp_path, max_bytes=200 * rows) as (feed, replay):
        assert feed.caught_up.wait(PATIENCE_S)
        assert feed.opened.is_set()
        assert replay.attempts == 100
        assert feed.attempts == 900
        kept = replay.training.newest(1000).pose_B4
    newest = [make_episode("arm-1", seed=seed, steps=1) for seed in range(800, 900)]
    poses = [one.steps[0].observation.pose.as_array() for one in newest]
    np.testing.assert_array_equal(kept.numpy(), poses)


def test_after_a_restart_one_robots_flood_leaves_the_others_their_share(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed, steps=1, side_px=64) for seed in range(20)])
    flood = [make_episode("flood", seed=seed, steps=1, side_px=64) for seed in range(20, 170)]
    store(tmp_path, flood)
    rows = row_bytes(height_px=SIDE_PX, width_px=SIDE_PX)
    with feeding(tmp_path, max_bytes=200 * rows) as (feed, replay):
        assert feed.caught_up.wait(PATIENCE_S)
        assert replay.attempts == 100
        counts = torch.unique(replay.training.newest(1000).calibration_B, return_counts=True)[1]
        assert sorted(counts.tolist()) == [20, 80]


def test_what_was_counted_before_a_restart_is_not_counted_again(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(50)])
    with feeding(tmp_path) as (feed, _):
        assert feed.caught_up.wait(PATIENCE_S)
        counted = feed.counted(history_drawn=3)
    (through,) = counted.through.values()
    assert (through, counted.examples, counted.history_drawn) == (50, 200, 3)
    with feeding(tmp_path, counted=counted) as (feed, _):
        assert feed.caught_up.wait(PATIENCE_S)
        assert (feed.examples, feed.examples_ever) == (200, 200)


def test_each_worker_takes_its_part_of_a_store(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(60)])
    found = []
    for rank in range(3):
        with feeding(tmp_path, team=Team(rank=rank, size=3)) as (feed, replay):
            assert feed.caught_up.wait(PATIENCE_S)
            assert (replay.attempts, feed.examples_ever) == (20, 240)
            found.append({tuple(pose) for pose in replay.training.newest(1000).pose_B4.tolist()})
    assert len(set.union(*found)) == sum(map(len, found)) == 240


def test_a_worker_keeps_the_keys_of_a_spool_as_one_run_also_with_others_in_it(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(20)])
    with feeding(tmp_path, team=Team(rank=1, size=2)) as (feed, _):
        assert feed.caught_up.wait(PATIENCE_S)
        (keys,) = feed._keys._spools.values()
    assert keys.runs() == [range(1, 21)]


def feed_of(*folders: Path, counted: Counted | None = None) -> tuple[ReplayFeed, Replay]:
    replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0, max_bytes=10**8)
    configs = [GatewayConfig(store=folder, max_store_bytes=STORE_BYTES) for folder in folders]
    return ReplayFeed(configs, replay, HandEyeRefiner(), counted=counted), replay


def test_what_two_stores_hold_is_trained_on_once(tmp_path: Path):
    episodes = [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(12)]
    store(tmp_path / "a", episodes[:8])
    store(tmp_path / "b", episodes[4:], first_sequence=5)
    feed, replay = feed_of(tmp_path / "a", tmp_path / "b")
    feed.start()
    try:
        assert feed.caught_up.wait(PATIENCE_S)
        assert (replay.attempts, feed.examples) == (12, 48)
    finally:
        feed.close()
    assert sorted(feed.counted().through.values()) == [8, 8]


def test_training_goes_on_from_one_store_while_another_cannot_be_read(tmp_path: Path):
    store(tmp_path / "a", [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(3)])
    store(tmp_path / "b", [make_episode("arm-2", seed=seed, side_px=SIDE_PX) for seed in range(3)])
    feed, replay = feed_of(tmp_path / "a", tmp_path / "b")
    wipe_trees(tmp_path / "b")
    feed.start()
    try:
        assert feed.opened.wait(PATIENCE_S)
        assert replay.attempts == 3
        assert not feed.caught_up.is_set()
        # A resumed run counts none of these again, but those of the other store.
        wait_until(lambda: feed.counted().examples == 12, "what was read is counted")
        assert list(feed.counted().through.values()) == [3]
    finally:
        feed.close()


def test_what_a_store_still_holds_unread_does_not_count_with_what_was_read_of_another(
    tmp_path: Path,
):
    store(tmp_path / "a", [make_episode("arm-1", seed=seed, side_px=SIDE_PX) for seed in range(3)])
    store(tmp_path / "b", [make_episode("arm-2", seed=seed, side_px=SIDE_PX) for seed in range(5)])
    feed, _ = feed_of(tmp_path / "a")
    feed.start()
    assert feed.caught_up.wait(PATIENCE_S)
    feed.close()
    counted = feed.counted()
    feed, _ = feed_of(tmp_path / "a", tmp_path / "b", counted=counted)
    feed.start()
    try:
        assert feed.caught_up.wait(PATIENCE_S)
        assert feed.examples_ever == feed.counted().examples == 32
        assert sorted(feed.counted().through.values()) == [3, 5]
    finally:
        feed.close()


def test_a_store_that_is_added_after_an_upgrade_counts_from_its_first_attempt(tmp_path: Path):
    def counted_after(*names: str, counted: Counted) -> Counted:
        feed, _ = feed_of(*[tmp_path / name for name in names], counted=counted)
        feed.start()
        try:
            assert feed.caught_up.wait(PATIENCE_S)
        finally:
            feed.close()
        return feed.counted()

    store(tmp_path / "old", [make_episode("arm-1", seed=seed) for seed in range(6)])
    upgraded = counted_after("old", counted=Counted(through={"": 6}, examples=24))
    assert (list(upgraded.through.values()), upgraded.examples) == ([6], 24)
    store(tmp_path / "new", [make_episode("arm-2", seed=seed) for seed in range(5)])
    both = counted_after("old", "new", counted=upgraded)
    assert sorted(both.through.values()) == [5, 6]
    assert both.examples == 24 + 20


def test_records_whose_camera_stands_nowhere_are_left_out_and_said_so_in_few_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    good = [make_episode("arm-1", seed=seed) for seed in range(4)]
    blind = [
        replace(make_episode("arm-2", seed=seed), calibration=np.zeros((3, 4), np.float32))
        for seed in range(9)
    ]
    store(tmp_path, good)
    store(tmp_path, blind)
    with feeding(tmp_path) as (feed, replay):
        assert feed.caught_up.wait(PATIENCE_S)
        feed.check()
        assert replay.attempts == 4
    said = [line for line in caplog.messages if "of no camera at a finite distance" in line]
    assert len(said) == 4
    for line, count in zip(said, (1, 2, 4, 8), strict=True):
        assert line.startswith("arm-2/")
        assert f", {count} of this robot: " in line


def test_the_calibration_in_use_is_that_of_a_robots_newest_attempt(tmp_path: Path):
    old, new = make_episode("arm-2").calibration, make_episode("arm-1").calibration
    attempts = [
        replace(make_episode("arm-1", seed=seed), calibration=old if seed < 3 else new)
        for seed in range(6)
    ]
    store(tmp_path, attempts)
    replay = Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.0)
    refiner = HandEyeRefiner()
    refiner.key_of(attempts[0])  # a recorded one
    feed = ReplayFeed([GatewayConfig(store=tmp_path, max_store_bytes=STORE_BYTES)], replay, refiner)
    feed.start()
    try:
        assert feed.caught_up.wait(PATIENCE_S)
    finally:
        feed.close()
    refiner.give_rows(Team())
    published = refiner.refined_maps({})["arm-1"].calibration_digest
    assert published == HandEyeMap(matrix=new).digest()


def test_one_robots_damaged_ledger_does_not_stop_training_from_the_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store(tmp_path, [make_episode("good", seed=seed) for seed in range(5)])
    store(tmp_path, [make_episode("bad", seed=seed) for seed in range(5, 12)])
    environment = lmdb.open(str(tmp_path), max_dbs=10, map_size=STORE_BYTES)
    with environment.begin(write=True, db=environment.open_db(b"tallies")) as transaction:
        transaction.put(b"bad", b"\xc1 rotten")
    environment.close()
    with feeding(tmp_path) as (feed, replay):
        assert feed.caught_up.wait(PATIENCE_S)
        assert replay.attempts == 12
        assert feed.attempts == 5
    assert caplog.text.count("the attempts of bad are not counted") == 1


FIVE_MORE = """
import sys
from pathlib import Path
from learner.store.episode_store import EpisodeStore
from protocol.codec import encode_episode
from tests.episodes import make_episode
from tests.stored_records import arrival
records = [encode_episode(make_episode("arm-1", seed=seed)) for seed in range(100, 105)]
store = EpisodeStore(Path(sys.argv[1]), 2**27)
store.commit([arrival(n, record, robot="arm-1") for n, record in enumerate(records, start=1)])
store.close()
"""


def test_what_was_read_and_not_yet_taken_is_counted_after_a_restart(tmp_path: Path):
    store(tmp_path, [make_episode("arm-1", seed=seed) for seed in range(3)])
    feed, _ = feed_of(tmp_path)
    (tail,) = feed._tails
    while feed._read_some(tail):
        pass
    subprocess.run([sys.executable, "-c", FIVE_MORE, str(tmp_path)], cwd=ROOT, check=True)
    read = tail.new(64)
    for number, stored in read[:2]:
        feed._take_new(tail, number, stored)
    counted = feed.counted()  # and here the trainer is killed
    tail.close()
    assert (list(counted.through.values()), counted.examples) == ([5], 20)
