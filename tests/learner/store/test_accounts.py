"""What a store says of itself: what each robot delivered, gave up, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Burial, Verdict
from protocol.errors import StoreError
from tests.stored_records import MAX_BYTES, SPOOL, arrival, data_file


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


def test_an_account_is_given_as_far_as_the_store_can_be_read(store: EpisodeStore, tmp_path: Path):
    store.commit([arrival(1), arrival(1, robot="leg")])
    assert store.account().damage == ""
    data = data_file(tmp_path / "store")
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


def test_a_name_that_rotted_is_damage_that_is_said(tmp_path: Path):
    store = EpisodeStore(tmp_path / "store", MAX_BYTES)
    store.commit([arrival(1, robot="robot-zz")])
    store.close()
    data = data_file(tmp_path / "store")
    data.write_bytes(data.read_bytes().replace(b"robot-zz", b"ro\xe2ot-zz"))
    store = EpisodeStore(tmp_path / "store", MAX_BYTES)
    with pytest.raises(StoreError, match="damaged"):
        store.holdings()
    with pytest.raises(StoreError, match="damaged"):
        store.robots()
    account = store.account()
    assert not account.is_whole
    assert (account.episodes, account.robots) == (1, {})
    assert "fleet episodes export" in account.damage
    store.close()
