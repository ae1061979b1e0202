"""Verifying a store: what is damaged is found, and the finder survives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.episode_store import EpisodeStore
from learner.store_verification import verify_store
from learner.stored_episode import Arrival, RecordKey
from protocol.codec import digest
from protocol.errors import StoreError

PAGE = 4096


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    store = EpisodeStore(tmp_path, 10**8)
    store.commit([_arrival(sequence) for sequence in range(1, 401)])
    return store


def _arrival(sequence: int) -> Arrival:
    record = b"%08d" % sequence * 1500
    key = RecordKey(robot_id="arm", spool_id=bytes(16), sequence=sequence)
    return Arrival(key=key, digest=digest(record), record=record, letter="s")


def test_a_sound_store_is_verified_while_it_is_open_elsewhere(store: EpisodeStore, tmp_path: Path):
    found = verify_store(tmp_path)
    assert (found.damaged, found.misplaced) == (0, [])
    assert found.episodes == 400
    store.close()


def test_rotten_records_are_counted(store: EpisodeStore, tmp_path: Path):
    store.close()
    data = tmp_path / "data.mdb"
    content = bytearray(data.read_bytes())
    for sequence in (7, 300):
        content[content.index(b"%08d" % sequence * 3)] ^= 0xFF
    data.write_bytes(content)
    found = verify_store(tmp_path)
    assert (found.episodes, found.damaged) == (398, 2)


def test_a_store_of_noise_does_not_end_the_process_that_asks(store: EpisodeStore, tmp_path: Path):
    store.close()
    data = tmp_path / "data.mdb"
    content = bytearray(data.read_bytes())
    content[2 * PAGE :] = b"\xa5" * (len(content) - 2 * PAGE)
    data.write_bytes(content)
    with pytest.raises(StoreError):
        verify_store(tmp_path)


def test_where_there_is_no_store_that_is_said(tmp_path: Path):
    with pytest.raises(StoreError, match="there is none yet"):
        verify_store(tmp_path / "nowhere")
