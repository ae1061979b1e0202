"""A full outbox, and a full disk: who waits, what is dropped, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.errors import OutboxError, OutboxFullError
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from tests.disks import ext4_disk, fail_disk, fill_disk, small_disk
from tests.robot_agent.delivery.outbox_contents import assert_adds_up, record, sequences


def test_a_full_outbox_stops_the_robot_if_that_is_the_policy(tmp_path: Path):
    outbox = Outbox(tmp_path, OutboxConfig(max_bytes=2500, when_full="stop"))
    outbox.put(record(1))
    outbox.put(record(2))
    with pytest.raises(OutboxFullError, match="2000 bytes wait and 1000 more exceed 2500"):
        outbox.put(record(3))
    assert outbox.counts().written == 2
    outbox.forget([1])
    assert outbox.put(record(3)) == 3
    outbox.close()


def test_room_is_looked_for_before_an_attempt_and_its_record_is_kept_if_it_must(tmp_path: Path):
    outbox = Outbox(tmp_path, OutboxConfig(max_bytes=2500, when_full="stop"))
    outbox.check_room()
    outbox.put(record(1))
    outbox.check_room()
    outbox.put(record(2))
    with pytest.raises(OutboxFullError, match="2000 bytes wait and 1000 more exceed 2500"):
        outbox.check_room()
    assert outbox.put(record(3), beyond_limit=True) == 3
    assert sequences(outbox) == [1, 2, 3]
    outbox.forget([1, 2])
    outbox.check_room()
    outbox.close()


def test_an_outbox_that_drops_the_oldest_always_has_room(tmp_path: Path):
    outbox = Outbox(tmp_path, OutboxConfig(max_bytes=2500, when_full="drop-oldest"))
    for number in range(3):
        outbox.put(record(number))
        outbox.check_room()
    assert sequences(outbox) == [2, 3]
    outbox.close()


def test_of_what_was_dropped_it_is_not_kept_when_it_was_put(tmp_path: Path):
    outbox = Outbox(tmp_path, OutboxConfig(max_bytes=2500, when_full="drop-oldest"))
    for number in range(20):
        outbox.put(record(number))
    assert [sequence for sequence, _ in outbox._put_at_s] == sequences(outbox) == [19, 20]
    outbox.close()


def test_a_full_outbox_drops_the_oldest_if_that_is_the_policy_and_says_which(tmp_path: Path):
    config = OutboxConfig(max_bytes=2500, when_full="drop-oldest")
    outbox = Outbox(tmp_path, config)
    for number in range(5):
        outbox.put(record(number))
    outbox.close()
    outbox = Outbox(tmp_path, config)
    assert sequences(outbox) == [4, 5]
    (gone,) = outbox.tombstones()
    assert (gone.sequence, gone.last_sequence) == (1, 3)
    assert outbox.counts().dropped == 3
    assert_adds_up(outbox)
    outbox.forget([1, 2, 3])
    assert outbox.tombstones() == []
    assert (outbox.counts().acked, outbox.counts().dropped) == (0, 3)
    outbox.close()


def test_an_episode_larger_than_the_whole_outbox_is_refused_in_words(tmp_path: Path):
    outbox = Outbox(tmp_path, OutboxConfig(max_bytes=500, when_full="drop-oldest"))
    with pytest.raises(OutboxFullError, match=r"raise outbox\.max_bytes"):
        outbox.put(record(1))
    outbox.close()


def test_a_full_disk_is_said_in_words_and_nothing_is_lost(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        outbox = Outbox(disk, OutboxConfig())
        put = 0
        with pytest.raises(OutboxFullError, match="the disk is full"):
            while put < 1000:
                outbox.put(record(put, size=20_000))
                put += 1
        assert outbox.counts().written == put == outbox.counts().waiting
        (disk / "ballast").unlink()
        outbox.forget(range(1, put // 2))
        outbox.put(record(put, size=20_000))
        assert_adds_up(outbox)
        outbox.close()


@contextmanager
def full_disk_with_an_outbox(folder: Path, *, episodes: int) -> Iterator[tuple[Path, Outbox]]:
    """An outbox that was opened when there was next to no room, and now there is none."""
    with small_disk(folder, megabytes=3) as disk:
        outbox = Outbox(disk / "state", OutboxConfig())
        for number in range(1, episodes + 1):
            outbox.put(record(number))
        outbox.set_aside(episodes, "schema", "wrong")
        outbox.close()
        fill_disk(disk / "logs", but_bytes=100_000)
        outbox = Outbox(disk / "state", OutboxConfig())
        fill_disk(disk / "more-logs")
        yield disk, outbox
        outbox.close()


def test_on_a_full_disk_what_the_learner_has_is_not_sent_again_and_goes_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with full_disk_with_an_outbox(tmp_path / "disk", episodes=10) as (disk, outbox):
        for sequence in (1, 3, 10):
            outbox.forget([sequence])
        assert sequences(outbox) == [2, 4, 5, 6, 7, 8, 9]
        assert outbox.tombstones() == []
        counts = outbox.counts()
        assert (counts.acked, counts.waiting, counts.waiting_bytes) == (2, 7, 7000)
        with pytest.raises(OutboxFullError, match=r"the disk is full \(0 bytes are free\)"):
            outbox.put(record(11))
        assert caplog.text.count("What the learner has is remembered") == 1, "said once"
        (disk / "logs").unlink()
        outbox.put(record(11))
        outbox.close()
        outbox = Outbox(disk / "state", OutboxConfig())
        assert sequences(outbox) == [2, 4, 5, 6, 7, 8, 9, 11]
        assert outbox.tombstones() == []
        assert outbox.counts().acked == 2
        assert_adds_up(outbox)
        outbox.close()


def test_on_a_disk_that_others_have_filled_a_robot_goes_on_with_the_room_that_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        outbox = Outbox(disk, OutboxConfig())
        for number in range(1, 301):
            outbox.put(record(number))
        outbox.forget(range(1, 201))
        outbox.close()
        outbox = Outbox(disk, OutboxConfig())
        fill_disk(disk / "logs")
        for number in range(301, 801):
            outbox.forget([number - 100])
            outbox.put(record(number))
        assert sequences(outbox) == list(range(701, 801))
        assert caplog.records == []
        outbox.close()


def test_an_outbox_on_a_full_disk_says_that_and_opens_when_there_is_room(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        outbox = Outbox(disk, OutboxConfig())
        outbox.put(record(1))
        outbox.close()
        fill_disk(disk / "logs")
        with pytest.raises(OutboxFullError, match=r"the disk is full .* free some space"):
            Outbox(disk, OutboxConfig())
        (disk / "logs").unlink()
        outbox = Outbox(disk, OutboxConfig())
        assert sequences(outbox) == [1]
        outbox.close()


def test_a_disk_that_fails_is_named_with_the_remedy_and_what_it_holds_is_still_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with ext4_disk(tmp_path / "image", tmp_path / "disk") as disk:
        outbox = Outbox(disk / "state", OutboxConfig())
        for number in range(1, 4):
            outbox.put(record(number))
        fail_disk(disk)
        remedy = rf"outbox {disk}/state/.*: the disk at {disk} takes no writes: .* replace the card"
        with pytest.raises(OutboxError, match=remedy):
            outbox.put(record(4))
        assert sequences(outbox) == [1, 2, 3]
        outbox.forget([1, 2])
        assert sequences(outbox) == [3]
        assert (outbox.counts().acked, outbox.counts().waiting) == (2, 1)
        assert caplog.text.count("What the learner has is remembered") == 1
        outbox.close()
