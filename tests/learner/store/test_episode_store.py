"""The episode store: every record once, and nothing wrong is ever handed out as right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest

from learner.store.episode_store import EpisodeStore
from learner.store.lmdb_pages import PageFile
from learner.store.stored_episode import Arrival, Burial, RecordKey, Verdict
from learner.store.verification import verify_store
from protocol.codec import digest
from protocol.errors import StoreError, StoreFullError
from tests import stored_records
from tests.delivery_site import ROOT
from tests.disks import small_disk
from tests.stored_records import PAGE

SPOOL = bytes(range(16))
MAX_BYTES = 10**8

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
HOLDER = """
import sys, time
from pathlib import Path
from learner.store.episode_store import EpisodeStore
with EpisodeStore(Path(sys.argv[1]), 10**8, readonly=True)._reading():
    print("reading", flush=True)
    time.sleep(60)
"""


def arrival(
    sequence: int, record: bytes = b"", *, robot: str = "arm", letter: str = "s"
) -> Arrival:
    record = record or sequence.to_bytes(8, "big") * 500
    key = RecordKey(robot_id=robot, spool_id=SPOOL, sequence=sequence)
    return Arrival(key=key, digest=digest(record), record=record, letter=letter)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    store = EpisodeStore(tmp_path / "store", MAX_BYTES)
    yield store
    store.close()


def numbers(store: EpisodeStore, after: int = 0, limit: int = 100) -> list[int]:
    return [number for number, _ in store.tail(after, limit)]


def test_a_key_is_read_as_it_was_written():
    key = RecordKey(robot_id="arm.7", spool_id=bytes(16), sequence=2**40)
    assert RecordKey.unpacked(key.packed()) == key


def test_records_come_back_in_the_order_of_their_commits(store: EpisodeStore):
    first, second = arrival(1), arrival(2, robot="leg")
    assert store.commit([second, first]) == [Verdict.STORED, Verdict.STORED]
    assert [episode.key for _, episode in store.tail(0, 10)] == [second.key, first.key]
    assert numbers(store, after=1) == [2]
    assert numbers(store, limit=1) == [1]
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
    assert numbers(again) == [1, 2, 3]
    assert again.last_commit() == 3
    again.close()


def test_the_same_record_again_is_a_duplicate_also_within_one_batch(store: EpisodeStore):
    assert store.commit([arrival(1), arrival(1)]) == [Verdict.STORED, Verdict.DUPLICATE]
    assert store.commit([arrival(1)]) == [Verdict.DUPLICATE]
    assert numbers(store) == [1]
    assert store.ledger("arm").duplicates == 2


def test_another_record_under_a_taken_key_is_kept_beside_the_first(store: EpisodeStore):
    store.commit([arrival(1, b"first")])
    assert store.commit([arrival(1, b"other")]) == [Verdict.CONFLICT]
    assert store.commit([arrival(1, b"other")]) == [Verdict.DUPLICATE]
    assert [episode.record for _, episode in store.tail(0, 10)] == [b"first"]
    assert [episode.record for episode in store.conflicts()] == [b"other"]
    assert (store.ledger("arm").stored, store.ledger("arm").conflicts) == (1, 1)


def test_every_missing_sequence_is_named(store: EpisodeStore):
    burial = Burial(
        robot_id="arm", spool_id=SPOOL, sequence=4, last_sequence=6, reason="disk was full"
    )
    store.commit([arrival(2), burial, arrival(10)])
    assert store.missing("arm") == {SPOOL: [range(1, 2), range(3, 4), range(7, 10)]}
    assert store.known_through("arm", SPOOL) == 0
    ledger = store.ledger("arm")
    assert (ledger.stored, ledger.tombstoned, ledger.missing) == (2, 3, 5)
    store.commit([arrival(1), arrival(3), *(arrival(n) for n in (7, 8, 9))])
    assert store.missing("arm") == {}
    assert store.known_through("arm", SPOOL) == 10
    assert store.known_through("arm", bytes(16)) == 0


def test_what_is_known_of_a_long_spool_with_a_gap_is_found_a_piece_at_a_time(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.store.accounts._MAX_LOOKED_AT", 4)
    store.commit([arrival(n) for n in (*range(1, 11), 12)])
    assert [store.known_through("arm", SPOOL) for _ in range(4)] == [4, 8, 10, 10]
    store.commit([arrival(11), arrival(14)])
    assert store.known_through("arm", SPOOL) == 12


def test_an_episode_that_comes_after_its_tombstone_is_stored(store: EpisodeStore):
    burial = Burial(robot_id="arm", spool_id=SPOOL, sequence=1, last_sequence=2, reason="")
    assert store.commit([burial, burial]) == [Verdict.BURIED, Verdict.BURIED]
    assert store.commit([arrival(1)]) == [Verdict.STORED]
    store.commit([burial])
    ledger = store.ledger("arm")
    assert (ledger.stored, ledger.tombstoned, ledger.missing) == (1, 1, 0)


def test_a_robot_that_only_gave_sequences_up_is_accounted_for(store: EpisodeStore):
    burial = Burial(robot_id="leg", spool_id=SPOOL, sequence=2, last_sequence=4, reason="refused")
    store.commit([arrival(1), burial])
    assert store.robots() == ["arm", "leg"]
    ledger = store.account().robots["leg"]
    assert (ledger.stored, ledger.tombstoned, ledger.missing) == (0, 3, 1)


def test_robots_whose_names_begin_alike_are_kept_apart(store: EpisodeStore):
    store.commit([arrival(1, robot="arm"), arrival(5, robot="arm-2")])
    assert store.missing("arm") == {}
    assert store.missing("arm-2") == {SPOOL: [range(1, 5)]}


def test_the_last_attempts_are_told_by_letters(store: EpisodeStore):
    store.commit([arrival(n, letter=letter) for n, letter in enumerate("sfaSFA", start=1)])
    ledger = store.ledger("arm")
    assert (ledger.recent, ledger.attempts, ledger.successes) == ("sfaSFA", 4, 2)
    store.commit([arrival(n) for n in range(10, 230)])
    assert store.ledger("arm").recent == "s" * 200


def test_a_batch_that_does_not_fit_leaves_nothing_of_itself(tmp_path: Path):
    store = EpisodeStore(tmp_path / "store", 400_000)
    sequence = 0
    with pytest.raises(StoreFullError, match=r"raise gateway\.max_store_bytes"):
        while sequence < 1000:
            store.commit([arrival(sequence + 1, bytes(9_000)), arrival(sequence + 2, bytes(9_000))])
            sequence += 2
    assert store.ledger("arm").stored == sequence == store.last_commit()
    assert len(numbers(store)) == sequence
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
        assert numbers(store) == list(range(1, sequence + 2))
        store.close()


def test_a_disk_without_room_for_a_new_store_is_said_in_words(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        with (disk / "rest").open("wb", buffering=0) as rest, suppress(OSError):
            while True:
                rest.write(bytes(4096))
        with pytest.raises(StoreFullError, match=r"has 0 bytes free.*make room"):
            EpisodeStore(disk / "store", MAX_BYTES)


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


def test_a_store_that_is_cut_short_is_refused_before_it_can_end_the_process(
    store: EpisodeStore, tmp_path: Path
):
    store.commit([arrival(n) for n in range(1, 50)])
    store.close()
    data = tmp_path / "store" / "data.mdb"
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    with pytest.raises(
        StoreError, match=r"cut short: save what is whole .* `fleet episodes export --store"
    ):
        EpisodeStore(tmp_path / "store", MAX_BYTES)


def test_a_record_that_rotted_is_not_handed_out(
    store: EpisodeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    marked = b"find me " * 1000
    store.commit([arrival(1), arrival(2, marked), arrival(3)])
    store.close()
    data = tmp_path / "store" / "data.mdb"
    data.write_bytes(data.read_bytes().replace(b"find me ", b"find us "))
    store = EpisodeStore(tmp_path / "store", MAX_BYTES)
    assert numbers(store) == [1, 3]
    assert numbers(store, after=1, limit=1) == [3]
    assert caplog.text.count("commit 2 is left out") == 1
    with pytest.raises(StoreError, match="digest does not match"):
        store.get(arrival(2).key)
    store.close()


def test_a_store_of_another_format_is_refused_and_left_as_it_is(
    store: EpisodeStore, tmp_path: Path
):
    store.close()
    with lmdb.open(str(tmp_path / "store"), max_dbs=8) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(db=meta, write=True) as transaction:
            transaction.put(b"format", b"99")
            transaction.delete(b"store_id")
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    for readonly in (False, True):
        with pytest.raises(StoreError, match="format b'99'"):
            EpisodeStore(tmp_path / "store", MAX_BYTES, readonly=readonly)
    assert (tmp_path / "store" / "data.mdb").read_bytes() == before


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


def test_a_page_that_hides_records_hides_no_others(
    store: EpisodeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for first in range(1, 601, 100):
        store.commit([arrival(n) for n in range(first, first + 100)])
    whole = numbers(store, limit=1000)
    wipe_page_with(tmp_path / "store", bytes(6) + (300).to_bytes(2, "big"))
    found = numbers(store, limit=1000)
    hidden = [number for number in whole if number not in found]
    assert 300 in hidden
    assert hidden == list(range(hidden[0], hidden[-1] + 1))
    assert len(hidden) < 200
    assert f"commit {hidden[0]} is left out" in caplog.text


def test_an_account_is_given_as_far_as_the_store_can_be_read(store: EpisodeStore, tmp_path: Path):
    store.commit([arrival(1), arrival(1, robot="leg")])
    assert store.account().damage == ""
    data = tmp_path / "store" / "data.mdb"
    content = data.read_bytes()
    at = content.rindex(b"arm\0" + SPOOL + b"\x84") + 4 + len(SPOOL)
    with data.open("r+b") as file:
        file.seek(at)
        file.write(b"\xc1")
    account = store.account()
    assert account.episodes == 2
    assert not account.is_whole
    assert [(name, one.stored) for name, one in account.robots.items()] == [("leg", 1)]
    assert account.damage.startswith("arm: ")
    assert "fleet episodes export" in account.damage
    with pytest.raises(StoreError, match="damaged"):
        store.ledger("arm")


def wipe_page_with(folder: Path, key: bytes) -> None:
    """Zero the newest leaf page of the log that holds a key; the store may be open meanwhile."""
    data = folder / "data.mdb"
    content = data.read_bytes()
    # A node of a large value: its flag, the size of the key, the key. Below the page's nodes
    # stands what is left of older ones.
    node = b"\1\0" + len(key).to_bytes(2, "little") + key
    pages = [
        at
        for at in range(0, len(content), 4096)
        if content[at + 10] == 2
        and node in content[at + int.from_bytes(content[at + 14 : at + 16], "little") : at + 4096]
    ]
    with data.open("r+b") as file:
        for at in pages:
            file.seek(at)
            file.write(bytes(4096))


def test_a_rotten_record_that_comes_again_is_whole_again(
    store: EpisodeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    marked = b"find me " * 1000
    store.commit([arrival(1), arrival(2, marked), arrival(3)])
    store.close()
    data = tmp_path / "store" / "data.mdb"
    data.write_bytes(data.read_bytes().replace(b"find me ", b"FOUND me"))
    store = EpisodeStore(tmp_path / "store", MAX_BYTES)
    assert numbers(store) == [1, 3]
    assert store.commit([arrival(2, marked)]) == [Verdict.DUPLICATE]
    assert numbers(store) == [1, 3, 4]
    found = store.get(arrival(2).key)
    assert found is not None
    assert found.record == marked
    assert store.commit([arrival(2, marked)]) == [Verdict.DUPLICATE]
    ledger = store.ledger("arm")
    assert (store.last_commit(), ledger.stored, ledger.conflicts) == (4, 3, 0)
    assert caplog.text.count("sent it again") == 1
    store.close()
    assert verify_store(tmp_path / "store").damaged == {}


def test_a_record_that_comes_again_frees_no_page_of_another_one(tmp_path: Path):
    """A disk wrote the page of one record over that of another."""
    store = EpisodeStore(tmp_path, MAX_BYTES)
    records = [stored_records.arrival(n, record_bytes=3000) for n in range(1, 21)]
    store.commit(records)
    store.close()
    with PageFile(tmp_path / "data.mdb") as pages:
        begins = [row.offset // PAGE * PAGE for row in pages.rows("log")]
    content = bytearray((tmp_path / "data.mdb").read_bytes())
    content[begins[2] : begins[2] + PAGE] = content[begins[17] : begins[17] + PAGE]
    (tmp_path / "data.mdb").write_bytes(content)
    store = EpisodeStore(tmp_path, MAX_BYTES)
    assert store.commit([records[2]]) == [Verdict.DUPLICATE]
    for sequence in range(21, 51):
        store.commit([stored_records.arrival(sequence, record_bytes=3000)])
    assert [store.get(one.key).record for one in records] == [one.record for one in records]
    assert store.ledger("arm").conflicts == 0
    store.close()


def test_a_killed_reader_does_not_keep_the_store_full(tmp_path: Path):
    store = EpisodeStore(tmp_path, 2_000_000)
    store.commit([stored_records.arrival(1)])
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        reader.kill()
    # Each one's ledger is written anew; without room that is given back, that fills the store.
    for sequence in range(1, 301):
        store.commit([stored_records.arrival(sequence, record_bytes=100)])
    assert store.ledger("arm").stored == 300
    store.close()


def test_nothing_of_the_process_gets_into_the_file_with_the_records(
    store: EpisodeStore, tmp_path: Path
):
    secret = b"a key that no disk shall see;"
    for number in range(1, 60):
        # Memory that was just given back is what the next page is made of.
        copies = [secret * (size // len(secret)) for size in (4_000, 8_100, 12_200, 40_000) * 8]
        del copies
        store.commit([arrival(number), arrival(number, b"small")])
    store.close()
    assert secret not in (tmp_path / "store" / "data.mdb").read_bytes()
