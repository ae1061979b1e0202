"""The episode store: every record once, in LMDB, keyed by robot, spool and sequence.

One process writes; any number read by memory map meanwhile, in processes of their own (LMDB
allows one open environment per process and folder).
"""

from __future__ import annotations

import logging
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from learner.retention import KEEP_ALL, Retention, RetentionLimits
from learner.store_age import StoreAge
from learner.store_file import open_store_file
from learner.store_ledger import (
    EMPTY_LEDGER,
    Retirement,
    RobotLedger,
    SpoolLedger,
    StoreAccount,
    Tally,
    robot_ledger,
)
from learner.store_transaction import StoreTransaction, last_number, read_entry
from learner.stored_episode import (
    SEQUENCE,
    Arrival,
    Burial,
    RecordKey,
    StoredEpisode,
    Verdict,
    robot_prefix,
    spool_prefix,
)
from protocol.errors import StoreError, StoreFullError

logger = logging.getLogger(__name__)

_SLACK_BYTES = 65_536
"""What a commit may write besides the records, roughly."""


class EpisodeStore:
    """The store of one folder. ``commit`` belongs to one thread; reading is free to all."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        *,
        readonly: bool = False,
        keep: RetentionLimits = KEEP_ALL,
        monotonic_s: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open the store, or begin one.

        Args:
            folder: where the store's files are.
            max_bytes: the size it may reach; the file grows as it is filled.
            readonly: read what another process writes.
            keep: what ``retire_some`` leaves.
            monotonic_s: what ages are measured by.
            now_ns: the wall clock, UTC; noted beside each record and never relied on.

        Raises:
            StoreError: it is cut short, of another format, or not there to be read.
        """
        self._folder = folder
        self._file = open_store_file(folder, max_bytes=max_bytes, readonly=readonly)
        self._now_ns = now_ns
        self._age = StoreAge(self._file, monotonic_s)
        self._retention = Retention(self._file, self._age, keep, now_ns)
        self._damaged: set[int] = set()

    def commit(self, batch: Sequence[Arrival | Burial]) -> list[Verdict]:
        """Store a batch in one transaction; when this returns, it is on disk.

        Raises:
            StoreFullError: the disk or the size limit is reached; nothing of the batch was stored.
            StoreError: the disk failed or the store is damaged; nothing of the batch was stored.
        """
        needed_bytes = sum(len(item.record) for item in batch if isinstance(item, Arrival))
        with (
            self._writing(needed_bytes),
            self._file.environment.begin(write=True) as transaction,
        ):
            writer = StoreTransaction(transaction, self._file, self._now_ns())
            verdicts = [writer.take(item) for item in batch]
            writer.finish()
            if self._age.is_mark_due:
                self._age.mark(transaction, writer.last_number)
        return verdicts

    def retire_some(self) -> bool:
        """Retire some of the oldest records beyond what is kept; True when there may be more.

        One bounded transaction; belongs to the thread that commits.

        Raises:
            StoreFullError, StoreError: as ``commit``; nothing was retired.
        """
        with self._writing(0):
            return self._retention.retire_some() is not None

    def retirements(self) -> list[Retirement]:
        """Return what was retired, when and why, oldest first."""
        if self._file.retirements is None:
            return []
        with self._reading() as transaction:
            cursor = transaction.cursor(self._file.retirements)
            return [msgspec.msgpack.decode(value, type=Retirement) for _, value in cursor]

    def tail(self, after: int, limit: int) -> list[tuple[int, StoredEpisode]]:
        """Return up to ``limit`` episodes with their commit numbers, all above ``after``.

        Numbers have gaps where records were retired. A damaged record is reported to the log and
        left out; so are those that a damaged page hides.

        Raises:
            StoreError: the store is so damaged that not even its newest record can be found.
        """
        while packed := self._log_after(after, limit):
            found = [(number, self._sound(number, value)) for number, value in packed]
            sound = [(number, episode) for number, episode in found if episode is not None]
            if sound:
                return sound
            after = packed[-1][0]
        return []

    def numbered(self, number: int) -> StoredEpisode | None:
        """Return the episode of one commit; None when it was retired or never was.

        Raises:
            StoreError: it is damaged.
        """
        with self._reading() as transaction:
            packed = transaction.get(SEQUENCE.pack(number), db=self._file.log)
        return StoredEpisode.unpacked(packed) if packed else None

    def get(self, key: RecordKey) -> StoredEpisode | None:
        """Return one episode, or None when it is not there, or not any more.

        Raises:
            StoreError: it is damaged.
        """
        with self._reading() as transaction:
            entry = transaction.get(key.packed(), db=self._file.index)
            if entry is None or len(entry) > SEQUENCE.size:
                return None
            packed = transaction.get(entry, db=self._file.log)
        if packed is None:
            raise StoreError(f"stored record {key} is damaged: the log has lost it")
        return StoredEpisode.unpacked(packed)

    def number_of(self, key: RecordKey) -> int | None:
        """Return the commit number of a record that is kept."""
        with self._reading() as transaction:
            entry = transaction.get(key.packed(), db=self._file.index)
        is_kept = entry is not None and len(entry) == SEQUENCE.size
        return SEQUENCE.unpack(entry)[0] if is_kept else None

    def kept_keys(self) -> Iterator[tuple[RecordKey, int]]:
        """Yield the key and the commit number of every record that was not retired."""
        with self._reading() as transaction:
            for key, entry in transaction.cursor(self._file.index):
                if len(entry) == SEQUENCE.size:
                    yield RecordKey.unpacked(key), SEQUENCE.unpack(entry)[0]

    def read_ledgers(self) -> None:
        """Read everything that stands beside the records.

        Raises:
            StoreError: something of it is damaged.
        """
        for robot_id in self.robots():
            self.ledger(robot_id)
            self.missing(robot_id)
        self.retirements()

    def last_commit(self) -> int:
        """Return the number of the newest episode; 0 when there is none."""
        with self._reading() as transaction:
            return last_number(transaction, self._file.log)

    def robots(self) -> list[str]:
        """Return the names of all robots that ever delivered."""
        with self._reading() as transaction:
            cursor = transaction.cursor(self._file.tallies)
            return [bytes(name).decode() for name in cursor.iternext(values=False)]

    def ledger(self, robot_id: str) -> RobotLedger:
        """Return what is stored, missing and tombstoned of one robot."""
        with self._reading() as transaction:
            tally = read_entry(transaction, self._file.tallies, robot_id.encode(), Tally)
        return robot_ledger(tally, list(self.spools(robot_id).values()))

    def account(self) -> StoreAccount:
        """Return what the store holds of everyone; a damaged part is said, not raised."""
        episodes, damage = 0, ""
        robots: dict[str, RobotLedger] = {}
        try:
            episodes = self.last_commit()
            robots = dict.fromkeys(self.robots(), EMPTY_LEDGER)
        except StoreError as error:
            damage = str(error)
        for robot_id in robots:
            try:
                robots[robot_id] = self.ledger(robot_id)
            except StoreError as error:
                damage = f"{robot_id}: {error}"
        if damage:
            damage += "; stop the learner, save what is whole with `fleet episodes export`"
        return StoreAccount(episodes=episodes, robots=robots, damage=damage)

    def missing(self, robot_id: str) -> dict[bytes, list[range]]:
        """Return, per spool id, the sequences that neither came nor were buried.

        Only those below the highest that did: later ones may still wait in the robot's outbox.
        """
        gaps: dict[bytes, list[range]] = {}
        with self._reading() as transaction:
            prefix = robot_prefix(robot_id)
            for name, value in _with_prefix(transaction, self._file.spools, prefix):
                spool = msgspec.msgpack.decode(value, type=SpoolLedger)
                if spool.missing:
                    known = _sequences(transaction, self._file.index, name)
                    known += _sequences(transaction, self._file.tombstones, name)
                    gaps[name[len(prefix) :]] = _gaps([*sorted(known), spool.highest + 1])
        return gaps

    def known_through(self, robot_id: str, spool_id: bytes) -> int:
        """Return the sequence up to which every one of a spool is stored or tombstoned.

        Raises:
            StoreError: the store is damaged.
        """
        name = spool_prefix(robot_id, spool_id)
        with self._reading() as transaction:
            spool = read_entry(transaction, self._file.spools, name, SpoolLedger)
            if not spool.missing:
                return spool.highest
            # Asked one by one, for the reason that _log_after gives.
            for sequence in range(1, spool.highest + 1):
                key = name + SEQUENCE.pack(sequence)
                tables = (self._file.index, self._file.tombstones)
                if all(transaction.get(key, db=table) is None for table in tables):
                    return sequence - 1
        return spool.highest

    def conflicts(self) -> list[StoredEpisode]:
        """Return the records that came under a key which another record had taken.

        Damaged ones are left out.
        """
        with self._reading() as transaction:
            packed = [bytes(value) for _, value in transaction.cursor(self._file.conflicts)]
        return [episode for value in packed if (episode := self._sound(0, value)) is not None]

    def conflict_count(self) -> int:
        """Return how many records came under a taken key, damaged ones among them."""
        with self._reading() as transaction:
            return int(transaction.stat(self._file.conflicts)["entries"])

    def spools(self, robot_id: str) -> dict[bytes, SpoolLedger]:
        """Return the account of each of a robot's spools."""
        prefix = robot_prefix(robot_id)
        with self._reading() as transaction:
            return {
                name[len(prefix) :]: msgspec.msgpack.decode(value, type=SpoolLedger)
                for name, value in _with_prefix(transaction, self._file.spools, prefix)
            }

    def size_bytes(self) -> int:
        """Return the size of the store's file."""
        return (self._folder / "data.mdb").stat().st_size

    def close(self) -> None:
        """Close the file; no method may be called afterwards."""
        self._file.environment.close()

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with self._file.environment.begin() as transaction:
                yield transaction
        except (lmdb.Error, msgspec.MsgspecError, struct.error, ValueError) as error:
            raise StoreError(f"episode store {self._folder}: damaged: {error}") from error

    @contextmanager
    def _writing(self, needed_bytes: int) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            if isinstance(error, lmdb.MapFullError) or self._lacks_room_for(needed_bytes):
                raise StoreFullError(
                    f"episode store {self._folder}: full at {self.size_bytes()} bytes ({error}); "
                    "make room, raise gateway.max_store_bytes or set gateway.keep_bytes"
                ) from error
            raise StoreError(f"episode store {self._folder}: write failed: {error}") from error
        except (msgspec.MsgspecError, struct.error) as error:
            raise StoreError(f"episode store {self._folder}: damaged: {error}") from error

    def _lacks_room_for(self, needed_bytes: int) -> bool:
        # LMDB calls a write that was cut short by a full disk an input/output error.
        return shutil.disk_usage(self._folder).free < 2 * needed_bytes + _SLACK_BYTES

    def _log_after(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        # Copied out in short transactions: an open one would keep old pages from being reused.
        # Asked number by number: LMDB ends the process when a cursor steps onto a damaged page,
        # but answers with an error when a search comes to one; that ends the transaction only.
        found: list[tuple[int, bytes]] = []
        with self._reading() as transaction:
            last = last_number(transaction, self._file.log)
        number = max(after, self._first_number() - 1)
        while number < last and len(found) < limit:
            try:
                with self._file.environment.begin(db=self._file.log) as transaction:
                    while number < last and len(found) < limit:
                        number += 1
                        value = transaction.get(SEQUENCE.pack(number))
                        if value is not None:
                            found.append((number, value))
            except lmdb.Error as error:
                self._note_damage(number, str(error))
        return found

    def _first_number(self) -> int:
        try:
            with self._reading() as transaction:
                cursor = transaction.cursor(self._file.log)
                return int(SEQUENCE.unpack(cursor.key())[0]) if cursor.first() else 0
        except StoreError:
            return 0

    def _sound(self, number: int, packed: bytes) -> StoredEpisode | None:
        try:
            episode = StoredEpisode.unpacked(packed)
        except StoreError as error:
            self._note_damage(number, str(error))
            return None
        if episode.is_proven and episode.number != number:
            self._note_damage(number, f"it holds the record of commit {episode.number}")
            return None
        return episode

    def _note_damage(self, number: int, what: str) -> None:
        if number not in self._damaged:
            self._damaged.add(number)
            logger.warning("commit %d is left out: %s", number, what)


def _sequences(transaction: Any, table: Any, name: bytes) -> list[int]:  # noqa: ANN401
    found = _with_prefix(transaction, table, name, values=False)
    return [SEQUENCE.unpack(key[len(name) :])[0] for key, _ in found]


def _gaps(known: list[int]) -> list[range]:
    return [
        range(before + 1, after) for before, after in pairwise([0, *known]) if after > before + 1
    ]


def _with_prefix(
    transaction: Any,  # noqa: ANN401
    table: Any,  # noqa: ANN401
    prefix: bytes,
    *,
    values: bool = True,
) -> Iterator[tuple[bytes, bytes]]:
    cursor = transaction.cursor(table)
    at_record = cursor.set_range(prefix)
    while at_record and cursor.key().startswith(prefix):
        yield cursor.key(), cursor.value() if values else b""
        at_record = cursor.next()
