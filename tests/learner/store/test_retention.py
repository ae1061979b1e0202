"""Retention: the oldest go, stated in the ledger, and what went stays known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from learner.config import GatewayConfig
from learner.store.episode_store import EpisodeStore
from learner.store.retention import KEEP_ALL, PIECE, RetentionLimits
from learner.store.stored_episode import SEQUENCE, Burial, Verdict
from learner.store.verification import verify_store
from protocol.configuration import from_table
from protocol.errors import ConfigurationError
from tests.stored_records import MAX_BYTES, PAGE, SPOOL, arrival, data_file, everything, tree_pages

ROOT = Path(__file__).parents[3]
RETIRE = """
import sys
from pathlib import Path
from learner.store.episode_store import EpisodeStore
from learner.store.retention import RetentionLimits
from protocol.errors import StoreError
for folder in sys.argv[1:]:
    try:
        store = EpisodeStore(Path(folder), 10**8, keep=RetentionLimits(age_s=1, log_bytes=1))
        while store.retire_some():
            pass
    except StoreError:
        pass
    print(folder, flush=True)
"""
DAY_S = 86_400.0
YEAR_NS = 365 * 86_400 * 10**9
NOON_NS = 1_800_000_000 * 10**9


class Clocks:
    """The two clocks of a machine, in a test's hands."""

    def __init__(self) -> None:
        self.monotonic_s = 1000.0
        self.wall_ns = NOON_NS


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


Opener = Callable[[RetentionLimits], EpisodeStore]


@pytest.fixture
def opened(tmp_path: Path, clocks: Clocks) -> Iterator[Opener]:
    stores: list[EpisodeStore] = []

    def open_it(keep: RetentionLimits) -> EpisodeStore:
        stores.append(
            EpisodeStore(
                tmp_path / "store",
                MAX_BYTES,
                keep=keep,
                monotonic_s=lambda: clocks.monotonic_s,
                now_ns=lambda: clocks.wall_ns,
            )
        )
        return stores[-1]

    yield open_it
    for store in stores:
        store.close()


def retire_all(store: EpisodeStore) -> None:
    while store.retire_some():
        pass


def test_above_its_size_the_store_lets_the_oldest_go_and_says_so(opened: Opener, clocks: Clocks):
    store = opened(RetentionLimits(log_bytes=400_000))
    store.commit([arrival(n) for n in range(1, 101)])
    retire_all(store)
    kept = list(everything(store))
    assert 15 <= len(kept) <= 33
    assert kept == list(range(kept[0], 101)), "what is left is the newest, without a gap"
    ledger = store.ledger("arm")
    assert (ledger.stored, ledger.retired, ledger.missing) == (100, 100 - len(kept), 0)
    (statement,) = store.retirements()
    assert statement.reason == "size"
    assert (statement.first_number, statement.last_number) == (1, kept[0] - 1)
    assert statement.records == ledger.retired
    assert statement.record_bytes >= 12_000 * ledger.retired
    assert statement.began_at_ns == clocks.wall_ns


def test_what_was_retired_is_known_when_it_comes_again(opened: Opener):
    store = opened(RetentionLimits(log_bytes=100_000))
    store.commit([arrival(n) for n in range(1, 51)])
    retire_all(store)
    assert store.get(arrival(1).key) is None
    assert store.numbered(1) is None
    assert store.commit([arrival(1)]) == [Verdict.DUPLICATE]
    assert store.commit([arrival(1, what="another")]) == [Verdict.CONFLICT]
    burial = Burial(robot_id="arm", spool_id=SPOOL, sequence=1, last_sequence=3, reason="")
    assert store.commit([burial]) == [Verdict.BURIED]
    ledger = store.ledger("arm")
    assert (ledger.missing, ledger.tombstoned, ledger.duplicates, ledger.conflicts) == (0, 0, 1, 1)
    assert store.known_through("arm", SPOOL) == 50
    assert 1 not in everything(store)


def test_a_store_that_lets_the_old_go_never_gets_full(tmp_path: Path):
    store = EpisodeStore(tmp_path, 1_500_000, keep=RetentionLimits(log_bytes=600_000))
    for first in range(1, 2001, 20):
        store.commit([arrival(n) for n in range(first, first + 20)])
        retire_all(store)
    assert store.ledger("arm").stored == 2000
    assert store.last_commit() == 2000
    assert store.size_bytes() < 1_500_000, "freed pages are used again"
    store.close()


def test_the_newest_record_always_stays_so_that_numbers_go_on(opened: Opener, tmp_path: Path):
    store = opened(RetentionLimits(log_bytes=1))
    store.commit([arrival(n) for n in (1, 2, 3)])
    retire_all(store)
    assert list(everything(store)) == [3]
    store.close()
    again = opened(RetentionLimits(log_bytes=1))
    again.commit([arrival(4)])
    retire_all(again)
    assert list(everything(again)) == [4]


def test_one_piece_is_bounded_and_one_statement_covers_many(opened: Opener):
    store = opened(RetentionLimits(log_bytes=1))
    store.commit([arrival(n, record_bytes=2500) for n in range(1, 2 * PIECE + 2)])
    assert store.retire_some()
    assert store.ledger("arm").retired == PIECE
    retire_all(store)
    (statement,) = store.retirements()
    assert (statement.records, statement.last_number) == (2 * PIECE, 2 * PIECE)


def test_what_has_grown_too_old_goes_and_nothing_younger(opened: Opener, clocks: Clocks):
    store = opened(RetentionLimits(age_s=10 * DAY_S))
    for day in range(1, 31):
        store.commit([arrival(day)])
        retire_all(store)
        clocks.monotonic_s += DAY_S
    retire_all(store)
    kept = list(everything(store))
    assert kept in ([20, 21, *range(22, 31)], list(range(21, 31)))
    assert {one.reason for one in store.retirements()} == {"age"}


@pytest.mark.parametrize("jump_ns", [YEAR_NS, -YEAR_NS, -3600 * 10**9])
def test_a_wall_clock_that_is_wrong_makes_nothing_old_and_nothing_young(
    opened: Opener, clocks: Clocks, jump_ns: int
):
    store = opened(RetentionLimits(age_s=10 * DAY_S))
    store.commit([arrival(1)])
    clocks.wall_ns += jump_ns
    store.commit([arrival(2)])
    retire_all(store)
    assert list(everything(store)) == [1, 2]
    store.close()
    store = opened(RetentionLimits(age_s=10 * DAY_S))
    retire_all(store)
    assert list(everything(store)) == [1, 2], "nor does it after a restart"
    clocks.monotonic_s += 11 * DAY_S
    store.commit([arrival(3)])
    retire_all(store)
    assert list(everything(store)) == [3]


def test_age_counts_over_restarts_on_machines_whose_monotonic_clock_begins_anew(
    opened: Opener, clocks: Clocks
):
    limits = RetentionLimits(age_s=2 * DAY_S)
    store = opened(limits)
    store.commit([arrival(1)])
    for sequence in (2, 3, 4):
        clocks.monotonic_s += DAY_S
        store.commit([arrival(sequence)])
        store.close()
        clocks.monotonic_s = 5.0
        store = opened(limits)
    clocks.monotonic_s += 2 * 3600
    retire_all(store)
    assert 1 not in everything(store)
    assert {3, 4} <= set(everything(store))


def test_a_clock_set_back_an_hour_changes_no_order_and_no_count(
    opened: Opener, clocks: Clocks, tmp_path: Path
):
    store = opened(RetentionLimits(log_bytes=200_000))
    store.commit([arrival(n) for n in range(1, 11)])
    clocks.wall_ns -= 3600 * 10**9
    store.commit([arrival(n) for n in (11, 12, 14, 12)])
    found = store.tail(0, 100)
    assert [episode.key.sequence for _, episode in found] == [*range(1, 13), 14]
    assert [number for number, _ in found] == list(range(1, 14))
    assert found[10][1].stored_at_ns < found[9][1].stored_at_ns
    assert store.missing("arm") == {SPOOL: [range(13, 14)]}
    store.commit([arrival(n) for n in range(15, 31)])
    retire_all(store)
    kept = list(everything(store))
    assert kept == list(range(kept[0], 30)), "the oldest by commit went, not by the clock"
    assert kept[0] > 10
    verified = verify_store(tmp_path / "store")
    assert (verified.episodes, verified.damaged, verified.misplaced) == (len(kept), {}, [])


def damaged_store(opened: Opener, folder: Path, damage: Callable[[bytearray], None]) -> None:
    """Fill the store with 300 records of five pages each, close it and damage its file."""
    store = opened(KEEP_ALL)
    store.commit([arrival(n, record_bytes=20_000) for n in range(1, 301)])
    store.close()
    content = bytearray(data_file(folder).read_bytes())
    damage(content)
    data_file(folder).write_bytes(content)


def first_page_of(content: bytearray, sequence: int) -> int:
    """Return where the pages of a record begin: the last place that has its key and number."""
    return content.rindex(arrival(sequence).key.packed() + SEQUENCE.pack(sequence)[::-1]) & -PAGE


def zeroed(content: bytearray) -> None:
    at = first_page_of(content, 3)
    content[at : at + PAGE] = bytes(PAGE)


def overwritten(content: bytearray) -> None:
    at = first_page_of(content, 3)
    content[at : at + PAGE] = bytes(range(256)) * (PAGE // 256)


def misdirected(content: bytearray) -> None:
    """A disk wrote the first page of record 200 over that of record 3."""
    at, other = first_page_of(content, 3), first_page_of(content, 200)
    content[at : at + PAGE] = content[other : other + PAGE]


def renumbered(content: bytearray) -> None:
    """The record is whole, but its page says that it is another record's."""
    at, other = first_page_of(content, 3), first_page_of(content, 200)
    content[at : at + 8] = content[other : other + 8]


def rotten(content: bytearray) -> None:
    content[first_page_of(content, 3) + 1000] ^= 1


@pytest.mark.parametrize("damage", [zeroed, overwritten, misdirected, renumbered, rotten])
def test_of_a_damaged_store_nothing_is_retired_and_nothing_sound_is_lost(
    opened: Opener, tmp_path: Path, damage: Callable[[bytearray], None]
):
    damaged_store(opened, tmp_path / "store", damage)
    store = opened(RetentionLimits(log_bytes=100 * 20_480))
    before = set(everything(store))
    assert before >= set(range(1, 301)) - {3}
    retire_all(store)
    store.commit([arrival(n, robot="leg", record_bytes=20_000) for n in range(1, 31)])
    retire_all(store)
    assert before <= set(everything(store)), "no page of a sound record was given away"
    assert store.ledger("arm").retired == 0
    damage_said = store.account().damage
    assert "nothing is retired any more" in damage_said
    assert "fleet episodes export" in damage_said


def test_no_damaged_page_ends_the_process_that_retires(opened: Opener, tmp_path: Path):
    store = opened(KEEP_ALL)
    store.commit([arrival(n, record_bytes=2500) for n in range(1, 1501)])
    store.close()
    content = data_file(tmp_path / "store").read_bytes()
    folders = []
    for at in tree_pages(content):
        if any(own in content[at : at + PAGE] for own in (b"tombstones", b"format")):
            continue  # without it no store is opened
        folders.append(tmp_path / f"without-{at}")
        folders[-1].mkdir()
        data_file(folders[-1]).write_bytes(content[:at] + bytes(PAGE) + content[at + PAGE :])
    assert len(folders) > 10
    command = [sys.executable, "-c", RETIRE, *(str(folder) for folder in folders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(folders)


def test_a_reader_that_holds_a_number_reads_on_past_what_was_retired(opened: Opener):
    store = opened(RetentionLimits(log_bytes=60_000))
    store.commit([arrival(n) for n in range(1, 31)])
    ((number, _),) = store.tail(4, 1)
    assert number == 5
    retire_all(store)
    following = [number for number, _ in store.tail(5, 100)]
    assert following == list(everything(store))
    assert following[0] > 6


def test_a_store_of_the_first_format_goes_on_in_the_new_one(opened: Opener, tmp_path: Path):
    store = opened(KEEP_ALL)
    store.commit([arrival(n) for n in range(1, 4)])
    store.close()
    make_first_format(tmp_path / "store")
    reader = EpisodeStore(tmp_path / "store", MAX_BYTES, readonly=True)
    assert list(everything(reader)) == [1, 2, 3]
    assert reader.retirements() == []
    reader.close()
    store = opened(RetentionLimits(log_bytes=1))
    assert store.commit([arrival(1), arrival(4)]) == [Verdict.DUPLICATE, Verdict.STORED]
    assert store.ledger("arm").stored == 4
    retire_all(store)
    assert store.ledger("arm").retired == 3
    assert store.commit([arrival(2)]) == [Verdict.DUPLICATE]


def make_first_format(folder: Path) -> None:
    """Turn a store into what the first version of the software wrote."""
    with lmdb.open(str(folder), max_dbs=16, map_size=MAX_BYTES) as environment:
        tables = {name: environment.open_db(name.encode()) for name in ("meta", "log")}
        newer = [environment.open_db(name) for name in (b"retirements", b"ages")]
        with environment.begin(write=True) as transaction:
            for table in newer:
                transaction.drop(table)
            transaction.put(b"format", b"1", db=tables["meta"])
            transaction.delete(b"service_s", db=tables["meta"])
            for number, value in list(transaction.cursor(tables["log"])):
                size = int.from_bytes(value[:2], "little") & 0x7FFF
                head, record = value[2 : 42 + size], value[42 + size + 16 :]
                plain = size.to_bytes(2, "little") + head + record
                transaction.put(number, plain, db=tables["log"])


def test_keeping_more_than_the_store_may_hold_is_refused():
    with pytest.raises(ConfigurationError, match="keep_bytes 100 exceeds nine tenths"):
        from_table(
            {"keep_bytes": 100, "max_store_bytes": 100}, GatewayConfig, name="", folder=Path()
        )
