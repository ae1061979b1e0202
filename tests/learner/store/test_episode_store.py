"""The episode store: every record once, in the order of their commits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import RecordKey, Verdict
from protocol.errors import StoreError
from tests.delivery_site import ROOT
from tests.stored_records import MAX_BYTES, arrival, commit_numbers, data_file

READER = """
import sys
from pathlib import Path
from learner.store.episode_store import EpisodeStore
store = EpisodeStore(Path(sys.argv[1]), 10**8, readonly=True)
for line in sys.stdin:
    found = store.tail(int(line), 100)
    sys.stdout.write(" ".join(str(number) for number, _ in found) + "\\n")
    sys.stdout.flush()
"""


def test_a_key_is_read_as_it_was_written():
    key = RecordKey(robot_id="arm.7", spool_id=bytes(16), sequence=2**40)
    assert RecordKey.unpacked(key.packed()) == key


def test_records_come_back_in_the_order_of_their_commits(store: EpisodeStore):
    first, second = arrival(1), arrival(2, robot="leg")
    assert store.commit([second, first]) == [Verdict.STORED, Verdict.STORED]
    assert [episode.key for _, episode in store.tail(0, 10)] == [second.key, first.key]
    assert [episode.key for _, episode in store.tail(0, 10, last=1)] == [second.key]
    assert store.tail(1, 10, last=1) == []
    assert commit_numbers(store, after=1) == [2]
    assert commit_numbers(store, limit=1) == [1]
    found = store.get(first.key)
    assert found is not None
    assert (found.record, found.digest) == (first.record, first.digest)
    assert store.get(arrival(9).key) is None
    assert store.robots() == ["arm", "leg"]


def test_commit_numbers_go_on_after_a_restart(store: EpisodeStore, tmp_path: Path):
    store.commit([arrival(1), arrival(2)])
    store.close()
    again = EpisodeStore(tmp_path / "store", MAX_BYTES)
    again.commit([arrival(3)])
    assert commit_numbers(again) == [1, 2, 3]
    assert again.last_commit() == 3
    again.close()


def test_the_same_record_again_is_a_duplicate_also_within_one_batch(store: EpisodeStore):
    assert store.commit([arrival(1), arrival(1)]) == [Verdict.STORED, Verdict.DUPLICATE]
    assert store.commit([arrival(1)]) == [Verdict.DUPLICATE]
    assert commit_numbers(store) == [1]
    assert store.ledger("arm").duplicates == 2


def test_another_record_under_a_taken_key_is_kept_beside_the_first(store: EpisodeStore):
    store.commit([arrival(1, b"first")])
    assert store.commit([arrival(1, b"other")]) == [Verdict.CONFLICT]
    assert store.commit([arrival(1, b"other")]) == [Verdict.DUPLICATE]
    assert [episode.record for _, episode in store.tail(0, 10)] == [b"first"]
    assert [episode.record for episode in store.conflicts()] == [b"other"]
    assert (store.ledger("arm").stored, store.ledger("arm").conflicts) == (1, 1)


def test_another_process_reads_on_while_this_one_writes(store: EpisodeStore, tmp_path: Path):
    store.commit([arrival(1)])
    command = [sys.executable, "-c", READER, str(tmp_path / "store")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for count in (1, 2, 3):
            reader.stdin.write("0\n")
            expected = " ".join(str(number) for number in range(1, count + 1))
            assert reader.stdout.readline().strip() == expected
            store.commit([arrival(count + 1)])
        reader.stdin.close()


def test_a_store_of_another_format_is_refused_and_left_as_it_is(
    store: EpisodeStore, tmp_path: Path
):
    store.close()
    with lmdb.open(str(tmp_path / "store"), max_dbs=8) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(db=meta, write=True) as transaction:
            transaction.put(b"format", b"99")
            transaction.delete(b"store_id")
    before = data_file(tmp_path / "store").read_bytes()
    for readonly in (False, True):
        with pytest.raises(StoreError, match="format b'99'"):
            EpisodeStore(tmp_path / "store", MAX_BYTES, readonly=readonly)
    assert data_file(tmp_path / "store").read_bytes() == before


def test_a_file_that_is_no_store_is_refused(tmp_path: Path):
    (tmp_path / "data.mdb").write_bytes(b"nothing of LMDB's" * 1000)
    with pytest.raises(StoreError, match="cannot be opened"):
        EpisodeStore(tmp_path, MAX_BYTES)


def test_reading_where_there_is_no_store_is_said_in_words(tmp_path: Path):
    with pytest.raises(StoreError, match="there is none yet"):
        EpisodeStore(tmp_path, MAX_BYTES, readonly=True)
    (tmp_path / "data.mdb").touch()
    with pytest.raises(StoreError, match="the file is empty"):
        EpisodeStore(tmp_path, MAX_BYTES, readonly=True)


def test_nothing_of_the_process_gets_into_the_file_with_the_records(
    store: EpisodeStore, tmp_path: Path
):
    secret = b"a key that no disk shall see;"
    for number in range(1, 60):
        # Memory that was just given back is what the next page is made of.
        copies = [secret * (size // len(secret)) for size in (4_000, 8_100, 12_200, 40_000) * 8]
        del copies
        store.commit([arrival(number, record_bytes=4_000), arrival(number, b"small")])
    store.close()
    assert secret not in data_file(tmp_path / "store").read_bytes()
