"""A store that rotted: nothing wrong is handed out, and what is sent again is whole again."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.store.episode_store import EpisodeStore
from learner.store.lmdb_pages import PageFile
from learner.store.stored_episode import Verdict
from learner.store.verification import verify_store
from protocol.errors import StoreError
from tests.stored_records import MAX_BYTES, PAGE, arrival, commit_numbers, data_file

MARKED = b"find me " * 1000


def test_a_store_that_is_cut_short_is_refused_before_it_can_end_the_process(
    store: EpisodeStore, tmp_path: Path
):
    store.commit([arrival(n) for n in range(1, 50)])
    store.close()
    data = data_file(tmp_path / "store")
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    with pytest.raises(
        StoreError, match=r"cut short: save what is whole .* `fleet episodes export --store"
    ):
        EpisodeStore(tmp_path / "store", MAX_BYTES)


def with_a_rotten_record(store: EpisodeStore, folder: Path) -> EpisodeStore:
    """Commit three records and let the second one rot; return the store, opened anew."""
    store.commit([arrival(1), arrival(2, MARKED), arrival(3)])
    store.close()
    data = data_file(folder / "store")
    data.write_bytes(data.read_bytes().replace(b"find me ", b"find us "))
    return EpisodeStore(folder / "store", MAX_BYTES)


def test_a_record_that_rotted_is_not_handed_out(
    store: EpisodeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store = with_a_rotten_record(store, tmp_path)
    assert commit_numbers(store) == [1, 3]
    assert commit_numbers(store, after=1, limit=1) == [3]
    assert caplog.text.count("commit 2 is left out") == 1
    with pytest.raises(StoreError, match="digest does not match"):
        store.get(arrival(2).key)
    store.close()


def wipe_page_with(folder: Path, key: bytes) -> None:
    """Zero the newest leaf page of the log that holds a key; the store may be open meanwhile."""
    data = data_file(folder)
    content = data.read_bytes()
    # A node of a large value: its flag, the size of the key, the key. Below the page's nodes
    # stands what is left of older ones.
    node = b"\1\0" + len(key).to_bytes(2, "little") + key
    pages = [
        at
        for at in range(0, len(content), PAGE)
        if content[at + 10] == 2
        and node in content[at + int.from_bytes(content[at + 14 : at + 16], "little") : at + PAGE]
    ]
    with data.open("r+b") as file:
        for at in pages:
            file.seek(at)
            file.write(bytes(PAGE))


def test_a_page_that_hides_records_hides_no_others(
    store: EpisodeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for first in range(1, 601, 100):
        store.commit([arrival(n) for n in range(first, first + 100)])
    whole = commit_numbers(store, limit=1000)
    wipe_page_with(tmp_path / "store", bytes(6) + (300).to_bytes(2, "big"))
    found = commit_numbers(store, limit=1000)
    hidden = [number for number in whole if number not in found]
    assert 300 in hidden
    assert hidden == list(range(hidden[0], hidden[-1] + 1))
    assert len(hidden) < 200
    assert f"commit {hidden[0]} is left out" in caplog.text


def test_a_rotten_record_that_comes_again_is_whole_again(
    store: EpisodeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store = with_a_rotten_record(store, tmp_path)
    assert commit_numbers(store) == [1, 3]
    assert store.commit([arrival(2, MARKED)]) == [Verdict.DUPLICATE]
    assert commit_numbers(store) == [1, 3, 4]
    found = store.get(arrival(2).key)
    assert found is not None
    assert found.record == MARKED
    assert store.commit([arrival(2, MARKED)]) == [Verdict.DUPLICATE]
    ledger = store.ledger("arm")
    assert (store.last_commit(), ledger.stored, ledger.conflicts) == (4, 3, 0)
    assert caplog.text.count("sent it again") == 1
    store.close()
    assert verify_store(tmp_path / "store").damaged == {}


def test_a_record_that_comes_again_frees_no_page_of_another_one(tmp_path: Path):
    """A disk wrote the page of one record over that of another."""
    store = EpisodeStore(tmp_path, MAX_BYTES)
    records = [arrival(n, record_bytes=3000) for n in range(1, 21)]
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
        store.commit([arrival(sequence, record_bytes=3000)])
    assert [store.get(one.key).record for one in records] == [one.record for one in records]
    assert store.ledger("arm").conflicts == 0
    store.close()
