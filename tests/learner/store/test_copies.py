"""Records that another store keeps: they go, and what they were stays known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store.copies import REASON
from learner.store.episode_store import EpisodeStore
from learner.store.export import export_store
from learner.store.file import open_store_file
from learner.store.retention import RetentionLimits
from learner.store.sequence_set import SequenceSet
from learner.store.stored_episode import SEQUENCE, Burial, Verdict
from learner.store.verification import verify_store
from protocol.errors import StoreError
from tests.stored_records import MAX_BYTES, PAGE, SPOOL, arrival, data_file, everything, tree_pages

COUNT = 40
LEAF = 2


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    store = EpisodeStore(tmp_path / "store", MAX_BYTES, keep=RetentionLimits(log_bytes=400_000))
    for sequence in range(1, COUNT + 1):
        store.commit([arrival(sequence)])
    yield store
    store.close()


def copies(*sequences: int) -> dict[int, bytes]:
    """Return the digests that another store has of these."""
    return {sequence: arrival(sequence).digest for sequence in sequences}


def small_copies(*sequences: int) -> dict[int, bytes]:
    return {one: arrival(one, record_bytes=300).digest for one in sequences}


def forget_retired(folder: Path) -> None:
    """Have the index say of retired records what it said before they were."""
    file = open_store_file(folder, max_bytes=MAX_BYTES, readonly=False)
    with file.environment.begin(write=True) as transaction:
        for key, entry in list(transaction.cursor(file.index)):
            transaction.put(key, entry[: SEQUENCE.size], db=file.index)
    file.close()


def test_a_copy_goes_and_is_known_when_it_comes_again(store: EpisodeStore, tmp_path: Path):
    assert store.retire_copies("arm", SPOOL, copies(3, 4, 9)) == [3, 4, 9]
    assert sorted(everything(store)) == sorted({*range(1, COUNT + 1)} - {3, 4, 9})
    assert store.commit([arrival(4)]) == [Verdict.DUPLICATE]
    ledger = store.ledger("arm")
    assert (ledger.stored, ledger.retired, ledger.missing) == (COUNT, 3, 0)
    assert ledger.attempts + ledger.aborted == COUNT - 3
    assert sum(ledger.ever.values()) == COUNT, "a counter never goes back"
    told = [(one.reason, one.first_number, one.last_number) for one in store.retirements()]
    assert told == [(REASON, 3, 4), (REASON, 9, 9)]
    assert not verify_store(tmp_path / "store").damaged


def test_the_newest_record_stays_so_that_numbers_go_on(store: EpisodeStore):
    assert store.retire_copies("arm", SPOOL, copies(COUNT - 1, COUNT)) == [COUNT - 1]
    store.commit([arrival(COUNT + 1)])
    assert store.last_commit() == COUNT + 1
    assert store.retire_copies("arm", SPOOL, copies(COUNT)) == [COUNT]


def test_what_is_not_here_or_is_another_record_stays_as_it_is(store: EpisodeStore):
    other = arrival(5, what="another").digest
    assert store.retire_copies("arm", SPOOL, {5: other, 99: other}) == []
    assert store.kept_digests("arm", SPOOL, [5, 99]) == copies(5)


def test_what_went_once_does_not_go_again(store: EpisodeStore):
    store.retire_copies("arm", SPOOL, copies(5))
    assert store.kept_digests("arm", SPOOL, [5, 6]) == copies(6)
    assert store.retire_copies("arm", SPOOL, copies(5)) == []
    assert store.ledger("arm").retired == 1


def test_with_a_damaged_record_among_them_no_copy_goes(store: EpisodeStore, tmp_path: Path):
    data = data_file(tmp_path / "store")
    content = data.read_bytes().replace(arrival(7).record[:4000], b"?" * 4000)
    with data.open("r+b") as file:
        file.write(content)
    with pytest.raises(StoreError, match="digest"):
        store.retire_copies("arm", SPOOL, copies(7, 8))
    assert store.kept_digests("arm", SPOOL, [7, 8]) == copies(8)
    assert store.ledger("arm").retired == 0


def test_retention_goes_on_past_copies_that_went(store: EpisodeStore):
    store.retire_copies("arm", SPOOL, copies(2, 30))
    while store.retire_some():
        pass
    kept = everything(store)
    assert 1 < len(kept) < COUNT - 2
    assert store.ledger("arm").retired == COUNT - len(kept)
    assert sum(one.records for one in store.retirements()) == COUNT - len(kept)


def test_an_export_takes_along_what_went(store: EpisodeStore, tmp_path: Path):
    store.retire_copies("arm", SPOOL, copies(3))
    report = export_store(tmp_path / "store", tmp_path / "new")
    assert (report.exported, report.retired, report.is_whole) == (COUNT - 1, 1, True)


def test_a_salvage_buries_nothing_that_was_retired_around_a_copy(
    store: EpisodeStore, tmp_path: Path
):
    store.retire_copies("arm", SPOOL, copies(2))
    while store.retire_some():
        pass
    (around, within) = sorted(store.retirements(), key=lambda one: one.records, reverse=True)
    assert around.first_number < within.first_number <= within.last_number < around.last_number
    kept = len(everything(store))
    store.close()
    # The index has lost which records were retired, but not where each of them was.
    forget_retired(tmp_path / "store")
    report = export_store(tmp_path / "store", tmp_path / "new")
    assert report.exported == kept
    assert not report.lost


def test_holdings_name_what_is_stored_and_given_up(store: EpisodeStore):
    store.commit([Burial(robot_id="arm", spool_id=SPOOL, sequence=45, last_sequence=46, reason="")])
    store.commit([arrival(50), arrival(2, robot="other")])
    store.retire_copies("arm", SPOOL, copies(3))
    found = store.holdings()
    arm, other = found["arm"][SPOOL], found["other"][SPOOL]
    assert arm.stored == SequenceSet([range(1, COUNT + 1), range(50, 51)])
    assert list(arm.tombstoned) == [45, 46]
    assert arm.missing == 50 - COUNT - 3
    assert list(other.stored) == [2]


def test_holdings_of_a_spool_are_read_on_as_it_grows_and_anew_when_a_gap_was_filled(
    store: EpisodeStore,
):
    store.commit([arrival(50)])
    assert store.holdings()["arm"][SPOOL].stored.highest == 50
    store.commit([arrival(51)])
    assert 51 in store.holdings()["arm"][SPOOL].stored
    store.commit([arrival(45)])
    # Not what the ledger says any more: it is looked through from the beginning.
    assert SPOOL not in store.holdings().get("arm", {})
    assert 45 in store.holdings()["arm"][SPOOL].stored


def test_a_spool_with_an_absurd_gap_hides_no_other_one(store: EpisodeStore):
    store.commit([arrival(1, robot="absurd"), arrival(2**50, robot="absurd")])
    store.commit([arrival(1, robot="other"), arrival(3, robot="other")])
    found = store.holdings()
    assert found["arm"][SPOOL].missing == 0
    assert list(found["other"][SPOOL].stored) == [1, 3]
    assert "absurd" not in found


def test_what_a_robot_left_at_another_gateway_is_not_looked_for(store: EpisodeStore):
    names = [f"moved-{number}" for number in range(50)]
    store.commit([arrival(100_001, robot=name, record_bytes=100) for name in names])
    found = store.holdings()
    assert {found[name][SPOOL].missing for name in names} == {100_000}
    store.commit([arrival(100_002, robot=name, record_bytes=100) for name in names])
    assert all(100_002 in store.holdings()[name][SPOOL].stored for name in names)


def test_a_spool_is_looked_through_in_several_calls_while_it_grows(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.store.holdings.MOST_LOOKED_AT", 1_000)
    store.commit([arrival(1, robot="other"), arrival(5_000, robot="other", record_bytes=100)])
    for calls in range(1, 20):
        found = store.holdings().get("other")
        if found is not None:
            break
        store.commit([arrival(5_000 + calls, robot="other", record_bytes=100)])
    assert found is not None
    assert calls > 3
    held = SequenceSet([range(1, 2), range(5_000, 5_000 + calls)])
    assert found[SPOOL].stored == held


def test_beside_a_damaged_page_no_copy_goes_and_others_do(tmp_path: Path):
    store = EpisodeStore(tmp_path / "many", MAX_BYTES)
    store.commit([arrival(sequence, record_bytes=300) for sequence in range(1, 1001)])
    data = data_file(tmp_path / "many")
    content = data.read_bytes()
    leaf = next(
        at
        for at in tree_pages(content)
        if content[at + 10] == LEAF and b"arm/500;" in content[at : at + PAGE]
    )
    with data.open("r+b") as file:
        file.seek(leaf)
        file.write(bytes(PAGE))
    with pytest.raises(StoreError, match="is damaged"):
        # In another leaf, but one that would be joined with the damaged one.
        store.retire_copies("arm", SPOOL, small_copies(485))
    assert store.retire_copies("arm", SPOOL, small_copies(100, 101, 900)) == [100, 101, 900]
    assert store.kept_digests("arm", SPOOL, [485, 900]).keys() == {485}
    store.close()


def test_a_robot_whose_sequences_are_in_too_many_pieces_is_left_out_until_they_are_few(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("learner.store.holdings.MOST_RUNS", 20)
    torn = "torn"
    store.commit([arrival(2 * one, robot=torn, record_bytes=100) for one in range(1, 31)])
    store.commit([arrival(one, robot="other", record_bytes=100) for one in (1, 3)])
    for _ in range(3):
        found = store.holdings()
        assert torn not in found
        assert {*found["arm"], *found["other"]} == {SPOOL}
    assert caplog.text.count("torn has left so many gaps") == 1
    store.commit([arrival(2 * one - 1, robot=torn, record_bytes=100) for one in range(1, 25)])
    assert store.holdings()[torn][SPOOL].missing == 6


def test_the_pieces_of_a_robot_are_counted_over_all_of_its_spools(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.store.holdings.MOST_RUNS", 20)
    for spool in range(8):
        for one in (2, 4, 6):
            burial = Burial(
                robot_id="torn",
                spool_id=bytes([spool]) * 16,
                sequence=one,
                last_sequence=one,
                reason="",
            )
            store.commit([burial])
    for _ in range(3):
        held = store.holdings()["torn"]
        assert sum(one.tombstoned.run_count for one in held.values()) == 18
