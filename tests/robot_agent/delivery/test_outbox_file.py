"""The outbox's file: damaged, of another format, torn by a loss of power."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from protocol.codec import digest
from protocol.errors import ConfigurationError
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.outbox_file import PAGE_BYTES
from tests.robot_agent.delivery.outbox_contents import BLOCK_BYTES, assert_adds_up, record

LOG_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
"""Of SQLite's write-ahead log; a frame's begins with the number of its page."""
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
