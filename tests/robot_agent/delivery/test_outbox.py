"""The outbox: what was put is there, whatever happens, and every sequence is accounted for."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.errors import ConfigurationError
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox, outbox_counts
from robot_agent.delivery.outbox_file import FILE_NAME
from tests.delivery_site import ROOT
from tests.robot_agent.delivery.outbox_contents import assert_adds_up, record, sequences

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
        assert outbox.counts() == outbox_counts(tmp_path)
        assert_adds_up(outbox)
        outbox.close()


def test_the_counts_are_readable_while_the_agent_runs(outbox: Outbox, tmp_path: Path):
    outbox.put(record(1))
    assert outbox_counts(tmp_path) == outbox.counts()


def test_the_counts_are_those_of_the_file_after_whatever_happened(tmp_path: Path):
    config = OutboxConfig(max_bytes=40_000, when_full="drop-oldest")
    outbox = Outbox(tmp_path, config)
    draws = random.Random(1)
    for number in range(300):
        outbox.put(record(number, size=draws.choice([400, 1000, 3000])))
        some = draws.sample(range(1, number + 2), min(3, number))
        if draws.random() < 0.5:
            outbox.forget([*some, 1000])
        elif some and draws.random() < 0.6:
            outbox.set_aside(some[0], "schema", "wrong")
        assert outbox.counts() == outbox_counts(tmp_path)
        if number % 50 == 49:
            outbox.close()
            outbox = Outbox(tmp_path, config)
            assert outbox.counts() == outbox_counts(tmp_path)
    counts = outbox.counts()
    assert min(counts.acked, counts.dropped, counts.refused, counts.waiting) > 0
    outbox.close()


def test_how_it_is_is_told_without_a_look_into_the_file(outbox: Outbox, tmp_path: Path):
    outbox.put(record(1))
    before = outbox.counts()
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("UPDATE waiting SET bytes = bytes + 1")
    other.close()
    assert outbox_counts(tmp_path) != before
    assert outbox.counts() == before


def test_a_folder_without_an_outbox_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        outbox_counts(tmp_path / "nobody")
