"""The outbox: what was put is there, whatever happens, and every sequence is accounted for."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codec import digest
from protocol.errors import ConfigurationError, OutboxFullError
from protocol.limits import MAX_TOMBSTONE_RANGE
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox, outbox_counts
from robot_agent.delivery.outbox_file import PAGE_BYTES
from robot_agent.delivery.record_log import SEGMENT_BYTES
from tests.delivery_site import ROOT
from tests.disks import small_disk

BLOCK_BYTES = 4096
"""What a disk writes at once."""
LOG_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
"""Of SQLite's write-ahead log; a frame's begins with the number of its page."""
WRITER = """
import sys
from pathlib import Path
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), OutboxConfig())
while True:
    sys.stdout.write(f"{outbox.put(b'record' * 1000)}\\n")
    sys.stdout.flush()
"""


FORMAT_1 = """
    CREATE TABLE outbox (
        format INTEGER NOT NULL, spool_id BLOB NOT NULL, written INTEGER NOT NULL,
        acked INTEGER NOT NULL, dropped INTEGER NOT NULL, refused INTEGER NOT NULL);
    CREATE TABLE waiting (
        sequence INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, digest BLOB NOT NULL,
        record BLOB NOT NULL);
    CREATE TABLE refused (
        sequence INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, digest BLOB NOT NULL,
        record BLOB NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
        refused_at_ns INTEGER NOT NULL);
    CREATE TABLE tombstones (sequence INTEGER PRIMARY KEY, reason TEXT NOT NULL);
    INSERT INTO outbox VALUES (1, randomblob(16), 5, 2, 0, 0);
"""


def record(number: int, size: int = 1000) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path, OutboxConfig())
    yield outbox
    outbox.close()


def sequences(outbox: Outbox, after: int = 0, limit_bytes: int = 10**9) -> list[int]:
    return [episode.sequence for episode in outbox.unsent(after, limit_bytes)]


def assert_adds_up(outbox: Outbox) -> None:
    counts = outbox.counts()
    parts = counts.acked + counts.dropped + counts.refused + counts.waiting
    assert counts.written == parts


def test_sequences_count_from_one_and_records_come_back(outbox: Outbox):
    assert [outbox.put(record(n)) for n in range(3)] == [1, 2, 3]
    assert [episode.record for episode in outbox.unsent(0, 10**9)] == [record(n) for n in range(3)]
    assert sequences(outbox, after=1) == [2, 3]


def test_a_piece_holds_at_least_one_record_and_no_more_than_fit(outbox: Outbox):
    for number in range(5):
        outbox.put(record(number))
    assert sequences(outbox, limit_bytes=1) == [1]
    assert sequences(outbox, limit_bytes=2500) == [1, 2]


def test_what_is_acked_is_forgotten_and_never_numbered_again(outbox: Outbox, tmp_path: Path):
    for number in range(4):
        outbox.put(record(number))
    outbox.forget([1, 2, 4, 4, 77])
    assert sequences(outbox) == [3]
    outbox.forget([3])
    spool_id = outbox.spool_id
    outbox.close()
    again = Outbox(tmp_path, OutboxConfig())
    assert again.spool_id == spool_id
    assert again.put(record(9)) == 5
    assert (again.counts().acked, again.counts().written) == (4, 5)
    again.close()


def test_a_writer_that_is_killed_loses_nothing_that_put_returned_for(tmp_path: Path):
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            returned = [int(writer.stdout.readline()) for _ in range(20)]
            os.kill(writer.pid, signal.SIGKILL)
            returned += [int(line) for line in writer.stdout.read().split()]
        outbox = Outbox(tmp_path, OutboxConfig())
        kept = outbox.unsent(0, 10**9)
        assert [episode.sequence for episode in kept] == list(range(1, len(kept) + 1))
        assert len(kept) - returned[-1] in {0, 1}, "at most the put that was under way is extra"
        assert {episode.record for episode in kept} == {b"record" * 1000}
        assert_adds_up(outbox)
        outbox.close()


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


def test_the_counts_are_readable_while_the_agent_runs(outbox: Outbox, tmp_path: Path):
    outbox.put(record(1))
    assert outbox_counts(tmp_path) == outbox.counts()


def test_a_folder_without_an_outbox_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        outbox_counts(tmp_path / "nobody")


def test_two_agents_cannot_share_an_outbox(outbox: Outbox, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="another agent"):
        Outbox(tmp_path, OutboxConfig())


def test_a_damaged_file_is_refused_with_the_remedy(tmp_path: Path):
    (tmp_path / "outbox.sqlite3").write_bytes(b"this is no database" * 500)
    with pytest.raises(ConfigurationError, match="move it away"):
        Outbox(tmp_path, OutboxConfig())


def test_an_outbox_of_another_format_is_refused(tmp_path: Path):
    Outbox(tmp_path, OutboxConfig()).close()
    with sqlite3.connect(tmp_path / "outbox.sqlite3") as database:
        database.execute("UPDATE outbox SET format = 3")
    with pytest.raises(ConfigurationError, match="format 3"):
        Outbox(tmp_path, OutboxConfig())


def crash_in_the_middle_of_a_checkpoint(outbox: Path, crashed: Path) -> list[int]:
    """Copy an open outbox's files as after a crash; return blocks that a checkpoint writes over."""
    shutil.copytree(outbox, crashed, ignore=shutil.ignore_patterns("*-shm"))
    log = (crashed / "outbox.sqlite3-wal").read_bytes()
    frames = range(LOG_HEADER_BYTES, len(log), FRAME_HEADER_BYTES + PAGE_BYTES)
    pages = {int.from_bytes(log[at : at + 4], "big") for at in frames}
    file_bytes = (crashed / "outbox.sqlite3").stat().st_size
    blocks = {(page - 1) * PAGE_BYTES // BLOCK_BYTES for page in pages}
    return sorted(block for block in blocks if block * BLOCK_BYTES < file_bytes)


def test_whatever_block_the_power_failed_in_during_a_checkpoint_every_record_is_there(
    tmp_path: Path,
):
    records = [record(number, size=30_000) for number in range(1, 13)]
    outbox = Outbox(tmp_path / "outbox", OutboxConfig())
    for each in records[:8]:
        outbox.put(each)
    outbox._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for each in records[8:]:
        outbox.put(each)
    blocks = crash_in_the_middle_of_a_checkpoint(tmp_path / "outbox", tmp_path / "crashed")
    outbox.close()
    assert blocks
    for block in blocks:
        torn = tmp_path / f"torn-{block}"
        shutil.copytree(tmp_path / "crashed", torn)
        with (torn / "outbox.sqlite3").open("r+b") as file:
            file.seek(block * BLOCK_BYTES)
            file.write(os.urandom(BLOCK_BYTES))
        outbox = Outbox(torn, OutboxConfig())
        assert [episode.record for episode in outbox.unsent(0, 10**9)] == records
        outbox.close()


def test_a_full_disk_is_said_in_words_and_nothing_is_lost(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
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


def log_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("outbox-*/*"), key=lambda file: int(file.name))


def copy_index(folder: Path, kept: Path) -> None:
    """Keep what the outbox's file says now; the log is left out."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for file in folder.glob("outbox.sqlite3*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, kept / file.name)


def lose_power(folder: Path, index: Path, after: Path) -> Path:
    """Return the outbox with its log as it is and its file as it was."""
    shutil.copytree(folder, after, ignore=shutil.ignore_patterns("outbox.sqlite3*"))
    shutil.copytree(index, after, dirs_exist_ok=True)
    return after


def test_what_the_index_lost_with_the_power_is_found_in_the_log(outbox: Outbox, tmp_path: Path):
    for number in range(1, 4):
        outbox.put(record(number))
    copy_index(tmp_path, tmp_path / "index")
    outbox.forget([2])
    for number in range(4, 7):
        outbox.put(record(number))
    again = Outbox(lose_power(tmp_path, tmp_path / "index", tmp_path / "after"), OutboxConfig())
    kept = {episode.sequence: episode.record for episode in again.unsent(0, 10**9)}
    assert kept == {number: record(number) for number in range(1, 7)}
    assert_adds_up(again)
    assert again.put(record(7)) == 7
    again.close()


def test_a_record_that_the_power_failed_in_is_none_and_the_next_takes_its_place(
    outbox: Outbox, tmp_path: Path
):
    outbox.put(record(1, size=20_000))
    copy_index(tmp_path, tmp_path / "index")
    outbox.put(record(2, size=20_000))
    after = lose_power(tmp_path, tmp_path / "index", tmp_path / "after")
    with log_files(after)[0].open("r+b") as file:
        file.seek(8 * BLOCK_BYTES)
        file.write(os.urandom(BLOCK_BYTES))
    again = Outbox(after, OutboxConfig())
    assert sequences(again) == [1]
    assert again.put(record(3, size=20_000)) == 2
    assert [episode.record for episode in again.unsent(1, 10**9)] == [record(3, size=20_000)]
    again.close()


def test_room_in_the_log_is_used_again_and_no_loss_of_power_costs_a_record(tmp_path: Path):
    rng = random.Random(0)
    folder, index = tmp_path / "outbox", tmp_path / "index"
    outbox = Outbox(folder, OutboxConfig())
    waiting: dict[int, bytes] = {}
    segment = None
    for number in range(1, 201):
        waiting[number] = record(number, size=4 * rng.randrange(1, 30_000))
        assert outbox.put(waiting[number]) == number
        newest = max(log_files(folder), key=lambda file: file.stat().st_mtime_ns)
        if newest != segment:
            # Nothing older than this may come back: the file was synced when the log turned over.
            segment = newest
            copy_index(folder, index)
        acked = [each for each in waiting if rng.random() < 0.3]
        outbox.forget(acked)
        for each in acked:
            del waiting[each]
        if number % 20 == 0:
            again = Outbox(lose_power(folder, index, tmp_path / f"{number}"), OutboxConfig())
            kept = {episode.sequence: episode.record for episode in again.unsent(0, 10**9)}
            assert waiting.items() <= kept.items()
            assert all(each == record(key, size=len(each)) for key, each in kept.items())
            assert_adds_up(again)
            assert again.put(record(number)) == number + 1
            again.close()
    outbox.close()
    assert len(log_files(folder)) < 10, "of 200 records that would fill 25"


def test_a_record_larger_than_a_segment_comes_back(outbox: Outbox):
    large = os.urandom(3 * SEGMENT_BYTES)
    for each in (b"small", large, b"smaller"):
        outbox.put(each)
    assert [episode.record for episode in outbox.unsent(0, 10**9)] == [b"small", large, b"smaller"]


def test_a_log_that_was_cut_or_is_gone_is_named(tmp_path: Path):
    outbox = Outbox(tmp_path, OutboxConfig())
    outbox.put(record(1, size=20_000))
    outbox.close()
    (segment,) = log_files(tmp_path)
    os.truncate(segment, 10_000)
    with pytest.raises(ConfigurationError, match="has 10000 bytes, but its records end at 20052"):
        Outbox(tmp_path, OutboxConfig())
    segment.unlink()
    with pytest.raises(ConfigurationError, match="has 0 bytes"):
        Outbox(tmp_path, OutboxConfig())


def test_an_outbox_whose_empty_log_was_removed_goes_on(tmp_path: Path):
    outbox = Outbox(tmp_path, OutboxConfig())
    outbox.forget([outbox.put(record(1))])
    outbox.close()
    shutil.rmtree(log_files(tmp_path)[0].parent)
    outbox = Outbox(tmp_path, OutboxConfig())
    assert outbox.put(record(2)) == 2
    assert [episode.record for episode in outbox.unsent(0, 10**9)] == [record(2)]
    outbox.close()


def test_an_outbox_of_format_1_is_carried_over(tmp_path: Path):
    with sqlite3.connect(tmp_path / "outbox.sqlite3") as database:
        database.executescript(FORMAT_1)
        for number in (2, 4, 5):
            row = (number, 1000, digest(record(number)), record(number))
            database.execute("INSERT INTO waiting VALUES (?, ?, ?, ?)", row)
    outbox = Outbox(tmp_path, OutboxConfig())
    assert outbox.put(record(6)) == 6
    outbox.set_aside(4, "digest", "altered")
    outbox.forget([2])
    outbox.close()
    outbox = Outbox(tmp_path, OutboxConfig())
    kept = {episode.sequence: episode.record for episode in outbox.unsent(0, 10**9)}
    assert kept == {5: record(5), 6: record(6)}
    assert (outbox.counts().acked, outbox.counts().refused) == (3, 1)
    assert_adds_up(outbox)
    outbox.close()
