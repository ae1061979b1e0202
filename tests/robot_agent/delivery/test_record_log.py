"""The log of records: what a loss of power leaves, room used again, damage named."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from protocol.errors import ConfigurationError
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.record_log import SEGMENT_BYTES
from tests.robot_agent.delivery.outbox_contents import (
    BLOCK_BYTES,
    assert_adds_up,
    record,
    sequences,
)


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
