"""What will never be stored: dropped or refused, told to the learner, and accounted for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from protocol.errors import OutboxFullError
from protocol.limits import MAX_TOMBSTONE_RANGE
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from tests.robot_agent.delivery.outbox_contents import assert_adds_up, record, sequences


def test_tombstones_are_joined_where_they_are_neighbours_for_one_reason(outbox: Outbox):
    for number in range(1, 8):
        outbox.put(record(number))
    for number in (1, 2, 4, 5, 6):
        outbox.set_aside(number, "digest", "altered" if number < 6 else "too large")
    ranges = [(gone.sequence, gone.last_sequence) for gone in outbox.tombstones()]
    assert ranges == [(1, 2), (4, 5), (6, 6)]


def test_tombstones_come_in_pieces_that_an_ack_can_list(outbox: Outbox, tmp_path: Path):
    with sqlite3.connect(tmp_path / "outbox.sqlite3") as database:
        rows = [(number, "dropped") for number in range(1, MAX_TOMBSTONE_RANGE + 11)]
        database.executemany("INSERT INTO tombstones VALUES (?, ?)", rows)
    (first,) = outbox.tombstones(limit=2 * MAX_TOMBSTONE_RANGE)
    assert (first.sequence, first.last_sequence) == (1, MAX_TOMBSTONE_RANGE)
    (second,) = outbox.tombstones(after=first.last_sequence, limit=3)
    assert (second.sequence, second.last_sequence) == (
        MAX_TOMBSTONE_RANGE + 1,
        MAX_TOMBSTONE_RANGE + 3,
    )


def test_a_refused_record_is_kept_aside_and_its_sequence_accounted_for(
    outbox: Outbox, tmp_path: Path
):
    outbox.put(record(1))
    outbox.put(record(2))
    outbox.set_aside(1, "digest", "it was altered")
    outbox.set_aside(1, "digest", "it was altered")
    assert sequences(outbox) == [2]
    assert outbox.counts().refused == 1
    assert [gone.reason for gone in outbox.tombstones()] == ["refused: it was altered"]
    assert_adds_up(outbox)
    with sqlite3.connect(tmp_path / "outbox.sqlite3") as database:
        kept = database.execute("SELECT record, code FROM refused").fetchall()
    assert kept == [(record(1), "digest")]


@pytest.mark.parametrize("policy", ["stop", "drop-oldest"])
def test_refused_records_never_stop_a_robot_and_the_newest_are_kept(tmp_path: Path, policy: str):
    config = OutboxConfig(max_bytes=10_000, when_full=policy)
    outbox = Outbox(tmp_path, config)
    for number in range(1, 31):
        outbox.check_room()
        outbox.set_aside(outbox.put(record(number)), "picture-size", "wrong size")
    counts = outbox.counts()
    assert (counts.refused, counts.refused_bytes, counts.waiting) == (30, 2000, 0)
    assert len(outbox.tombstones(limit=100)) == 1
    assert outbox.tombstones()[0].last_sequence == 30, "each of them is told to the learner"
    assert_adds_up(outbox)
    with sqlite3.connect(tmp_path / "outbox.sqlite3") as database:
        assert database.execute("SELECT sequence FROM refused").fetchall() == [(29,), (30,)]
    outbox.close()


def test_an_outbox_that_kept_too_many_refused_records_goes_on(tmp_path: Path):
    outbox = Outbox(tmp_path, OutboxConfig(max_bytes=100_000))
    for number in range(1, 11):
        outbox.set_aside(outbox.put(record(number)), "picture-size", "wrong size")
    outbox.close()
    outbox = Outbox(tmp_path, OutboxConfig(max_bytes=4_000))
    assert outbox.counts().refused_bytes == 1000
    for number in range(3):
        outbox.put(record(number))
    with pytest.raises(OutboxFullError, match="3000 bytes wait, 1000 are of refused ones"):
        outbox.put(record(4))
    outbox.close()
