"""The reader that judges the fleet under fire sees every fault that it is there to see."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Arrival, RecordKey
from protocol.codec import digest, encode_episode
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from tests.chaos.independent_reader import Comparison, compare, read_store
from tests.chaos.journal import Journal, read_journals
from tests.episodes import make_episode

STORE_BYTES = 2**26


class Site:
    """One robot's outbox and journal, and a store that a test fills as it likes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.outbox = Outbox(folder / "arm", OutboxConfig())
        self.journal = Journal(folder / "journal")
        self.records = [encode_episode(make_episode("arm", seed)) for seed in range(4)]

    def spool(self, record: bytes) -> int:
        self.journal.intends("arm", digest(record))
        sequence = self.outbox.put(record)
        self.journal.spooled("arm", self.outbox.spool_id, sequence, digest(record))
        self.outbox.forget([sequence])
        return sequence

    def store(self, sequence: int, record: bytes) -> None:
        key = RecordKey(robot_id="arm", spool_id=self.outbox.spool_id, sequence=sequence)
        store = EpisodeStore(self._folder / "store", STORE_BYTES)
        store.commit([Arrival(key=key, digest=digest(record), record=record, letter="s")])
        store.close()

    def tamper(self, key: bytes, old: bytes, new: bytes) -> None:
        """Put the value of commit ``key`` again with ``old`` in it replaced."""
        with lmdb.open(str(self._folder / "store"), max_dbs=8, map_size=STORE_BYTES) as environment:
            log = environment.open_db(b"log")
            with environment.begin(db=log, write=True) as transaction:
                transaction.put(key, transaction.get(key).replace(old, new))

    def double(self, key: bytes, other: bytes) -> None:
        """Put the value of one commit under another number too."""
        with lmdb.open(str(self._folder / "store"), max_dbs=8, map_size=STORE_BYTES) as environment:
            log = environment.open_db(b"log")
            with environment.begin(db=log, write=True) as transaction:
                transaction.put(other, transaction.get(key))

    def compared(self) -> Comparison:
        outboxes = {"arm": self._folder / "arm" / "outbox.sqlite3"}
        journals = read_journals([self._folder / "journal"])
        return compare(read_store(self._folder / "store"), outboxes, journals)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    for record in site.records[:3]:
        site.store(site.spool(record), record)
    return site


def commit(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_a_fleet_without_fault_is_clean(site: Site):
    found = site.compared()
    assert found.is_clean
    assert found.stored == found.expected == 3


def test_an_episode_that_never_came_is_missing(site: Site):
    sequence = site.spool(site.records[3])
    assert [key[2] for key in site.compared().missing] == [sequence]


def test_an_episode_that_an_outbox_forgot_having_given_out_is_missing(site: Site):
    lost = digest(site.records[3])
    site.journal.spooled("arm", site.outbox.spool_id, 9, lost)
    assert [key[2] for key in site.compared().missing] == [9]


def test_an_episode_that_was_stored_twice_is_doubled(site: Site):
    site.double(commit(2), commit(9))
    assert [key[2] for key in site.compared().doubled] == [2, 2]


def test_an_episode_under_a_second_sequence_is_doubled_and_unknown(site: Site):
    site.store(7, site.records[0])
    found = site.compared()
    assert sorted(key[2] for key in found.doubled) == [1, 7]
    assert [key[2] for key in found.unknown] == [7]


def test_a_record_of_which_one_byte_changed_is_altered(site: Site):
    site.tamper(commit(3), site.records[2][-9:], bytes(9))
    assert [key[2] for key in site.compared().altered] == [3]


def test_another_record_than_was_spooled_is_altered(site: Site):
    spooled = site.spool(site.records[3])
    site.store(spooled, encode_episode(make_episode("arm", seed=77)))
    assert [key[2] for key in site.compared().altered] == [spooled]


def test_a_spooling_that_was_cut_off_may_have_come_or_not(site: Site):
    record = site.records[3]
    site.journal.intends("arm", digest(record))
    assert site.compared().is_clean
    sequence = site.outbox.put(record)
    site.outbox.forget([sequence])
    assert [key[2] for key in site.compared().missing] == [sequence]
    site.store(sequence, record)
    assert site.compared().is_clean


def test_what_is_still_in_an_outbox_is_not_delivered(site: Site):
    site.outbox.put(site.records[3])
    assert site.compared().left == 1
