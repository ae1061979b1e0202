"""Verifying a store: what is damaged is found, and the finder survives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Burial
from learner.store.verification import verify_store
from protocol.errors import StoreError
from tests.stored_records import SPOOL, arrival, data_file

PAGE = 4096


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    store = EpisodeStore(tmp_path, 10**8)
    store.commit([arrival(sequence) for sequence in range(1, 401)])
    return store


def test_a_sound_store_is_verified_while_it_is_open_elsewhere(store: EpisodeStore, tmp_path: Path):
    found = verify_store(tmp_path)
    assert (found.damaged, found.misplaced, found.damaged_conflicts) == ({}, [], 0)
    assert found.episodes == 400
    store.close()


def rot(folder: Path, *names: bytes) -> None:
    data = data_file(folder)
    content = data.read_bytes()
    for name in names:
        content = content.replace(name, b"?" * len(name))
    data.write_bytes(content)


def test_rotten_records_are_named(store: EpisodeStore, tmp_path: Path):
    store.commit([arrival(5, robot="leg"), arrival(5, robot="leg", what=" again")])
    store.close()
    rot(tmp_path, b"arm/7;", b"arm/8;", b"arm/300;", b"leg/5 again;")
    found = verify_store(tmp_path)
    assert found.episodes == 398
    assert found.damaged == {"arm": {SPOOL.hex(): [(7, 8), (300, 300)]}}
    assert (found.damaged_episodes, found.damaged_conflicts) == (3, 1)
    assert found.damaged_of("arm") == {SPOOL.hex(): [range(7, 9), range(300, 301)]}


def test_records_that_name_another_robot_than_they_came_from_are_damaged(
    store: EpisodeStore, tmp_path: Path
):
    store.close()
    rot(tmp_path, b"arm")  # everywhere alike: in the records' heads, in the index, in the ledger
    found = verify_store(tmp_path)
    assert (found.episodes, found.damaged_episodes) == (0, 400)


def test_an_index_that_names_nobody_is_said_in_words(store: EpisodeStore, tmp_path: Path):
    store.close()
    rot(tmp_path, b"arm\0")
    with pytest.raises(StoreError, match="names no robot"):
        verify_store(tmp_path)


def test_a_ledger_that_cannot_be_read_is_said_with_what_to_do(store: EpisodeStore, tmp_path: Path):
    burial = Burial(robot_id="arm", spool_id=SPOOL, sequence=900, last_sequence=901, reason="")
    store.commit([burial])
    store.close()
    rot(tmp_path, b"tombstoned")
    with pytest.raises(StoreError, match=r"`fleet episodes export --store .* --to NEW`"):
        verify_store(tmp_path)


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
