"""A full store and a full disk: said in words, and nothing of a batch is half there."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Burial, Verdict
from protocol.errors import StoreFullError
from tests.delivery_site import ROOT
from tests.disks import small_disk
from tests.stored_records import MAX_BYTES, SPOOL, arrival, commit_numbers

HOLDER = """
import sys, time
from pathlib import Path
from learner.store.episode_store import EpisodeStore
with EpisodeStore(Path(sys.argv[1]), 10**8, readonly=True)._reading():
    print("reading", flush=True)
    time.sleep(60)
"""


def test_a_batch_that_does_not_fit_leaves_nothing_of_itself(tmp_path: Path):
    store = EpisodeStore(tmp_path / "store", 400_000)
    sequence = 0
    with pytest.raises(StoreFullError, match=r"raise gateway\.max_store_bytes"):
        while sequence < 1000:
            store.commit([arrival(sequence + 1, bytes(9_000)), arrival(sequence + 2, bytes(9_000))])
            sequence += 2
    assert store.ledger("arm").stored == sequence == store.last_commit()
    assert len(commit_numbers(store)) == sequence
    store.close()


def test_what_all_robots_give_up_leaves_room_for_records(tmp_path: Path):
    store = EpisodeStore(tmp_path / "store", 8_000_000)
    verdicts = []
    for robot in range(1, 41):
        burial = Burial(
            robot_id=f"evil-{robot}",
            spool_id=SPOOL,
            sequence=1,
            last_sequence=1000,
            reason="\N{SNOWMAN}" * 512,
        )
        verdicts += store.commit([burial])
    taken = verdicts.index(Verdict.TOMBSTONES_FULL)
    assert set(verdicts[:taken]) == {Verdict.BURIED}
    assert set(verdicts[taken:]) == {Verdict.TOMBSTONES_FULL}
    assert sum(1 for _ in store.tombstoned_keys()) == 1000 * taken
    for sequence in range(1, 61):
        assert store.commit([arrival(sequence, bytes(90_000))]) == [Verdict.STORED]
    store.close()


def test_a_full_disk_is_said_in_words_and_the_store_goes_on_when_there_is_room(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=3) as disk:
        store = EpisodeStore(disk / "store", MAX_BYTES)
        sequence = 0
        with pytest.raises(StoreFullError, match="make room"):
            while sequence < 1000:
                store.commit([arrival(sequence + 1, bytes(50_000))])
                sequence += 1
        assert sequence > 10
        (disk / "ballast").unlink()
        assert store.commit([arrival(sequence + 1, bytes(50_000))]) == [Verdict.STORED]
        assert commit_numbers(store) == list(range(1, sequence + 2))
        store.close()


def test_a_disk_without_room_for_a_new_store_is_said_in_words(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        with (disk / "rest").open("wb", buffering=0) as rest, suppress(OSError):
            while True:
                rest.write(bytes(4096))
        with pytest.raises(StoreFullError, match=r"has 0 bytes free.*make room"):
            EpisodeStore(disk / "store", MAX_BYTES)


def test_a_killed_reader_does_not_keep_the_store_full(tmp_path: Path):
    store = EpisodeStore(tmp_path, 2_000_000)
    store.commit([arrival(1)])
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        reader.kill()
    # Each one's ledger is written anew; without room that is given back, that fills the store.
    for sequence in range(1, 301):
        store.commit([arrival(sequence, record_bytes=100)])
    assert store.ledger("arm").stored == 300
    store.close()
