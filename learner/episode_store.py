"""The episode store: every record once, in LMDB, keyed by robot, spool and sequence.

One process writes; any number read by memory map meanwhile, in processes of their own (LMDB
allows one open environment per process and folder).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from learner.store_file import open_store_file
from learner.store_ledger import RobotLedger, SpoolLedger, Tally, robot_ledger
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

    def __init__(self, folder: Path, max_bytes: int, *, readonly: bool = False) -> None:
        """Open the store, or begin one.

        Args:
            folder: where the store's files are.
            max_bytes: the size it may reach; the file grows as it is filled.
            readonly: read what another process writes.

        Raises:
            StoreError: it is cut short, of another format, or not there to be read.
        """
        self._folder = folder
        self._file = open_store_file(folder, max_bytes=max_bytes, readonly=readonly)
        self._damaged: set[int] = set()

    def commit(self, batch: Sequence[Arrival | Burial]) -> list[Verdict]:
        """Store a batch in one transaction; when this returns, it is on disk.

        Raises:
            StoreFullError: the disk or the size limit is reached; nothing of the batch was stored.
            StoreError: the disk failed; nothing of the batch was stored.
        """
        try:
            with self._file.environment.begin(write=True) as transaction:
                writer = StoreTransaction(transaction, self._file)
                verdicts = [writer.take(item) for item in batch]
                writer.finish()
        except lmdb.Error as error:
            if isinstance(error, lmdb.MapFullError) or self._lacks_room_for(batch):
                raise StoreFullError(
                    f"episode store {self._folder}: full at {self.size_bytes()} bytes ({error}); "
                    "make room or raise gateway.max_store_bytes"
                ) from error
            raise StoreError(f"episode store {self._folder}: commit failed: {error}") from error
        return verdicts

    def tail(self, after: int, limit: int) -> list[tuple[int, StoredEpisode]]:
        """Return up to ``limit`` episodes with their commit numbers, all above ``after``.

        A damaged record is reported to the log and left out.
        """
        while packed := self._log_after(after, limit):
            found = [(number, self._sound(number, value)) for number, value in packed]
            sound = [(number, episode) for number, episode in found if episode is not None]
            if sound:
                return sound
            after = packed[-1][0]
        return []

    def get(self, key: RecordKey) -> StoredEpisode | None:
        """Return one episode, or None when it is not there.

        Raises:
            StoreError: it is damaged.
        """
        with self._file.environment.begin() as transaction:
            number = transaction.get(key.packed(), db=self._file.index)
            packed = number and transaction.get(number, db=self._file.log)
        return StoredEpisode.unpacked(packed) if packed else None

    def last_commit(self) -> int:
        """Return the number of the newest episode; 0 when there is none."""
        with self._file.environment.begin() as transaction:
            return last_number(transaction, self._file.log)

    def robots(self) -> list[str]:
        """Return the names of all robots that ever delivered."""
        with self._file.environment.begin() as transaction:
            cursor = transaction.cursor(self._file.tallies)
            return [bytes(name).decode() for name in cursor.iternext(values=False)]

    def ledger(self, robot_id: str) -> RobotLedger:
        """Return what is stored, missing and tombstoned of one robot."""
        with self._file.environment.begin() as transaction:
            tally = read_entry(transaction, self._file.tallies, robot_id.encode(), Tally)
            prefix = robot_prefix(robot_id)
            spools = [
                msgspec.msgpack.decode(value, type=SpoolLedger)
                for _, value in _with_prefix(transaction, self._file.spools, prefix)
            ]
        return robot_ledger(tally, spools)

    def missing(self, robot_id: str) -> dict[bytes, list[range]]:
        """Return, per spool id, the sequences that neither came nor were buried.

        Only those below the highest that did: later ones may still wait in the robot's outbox.
        """
        gaps: dict[bytes, list[range]] = {}
        with self._file.environment.begin() as transaction:
            prefix = robot_prefix(robot_id)
            for name, value in _with_prefix(transaction, self._file.spools, prefix):
                if msgspec.msgpack.decode(value, type=SpoolLedger).missing:
                    known = _sequences(transaction, self._file.index, name)
                    known += _sequences(transaction, self._file.tombstones, name)
                    gaps[name[len(prefix) :]] = _gaps(sorted(known))
        return gaps

    def known_through(self, robot_id: str, spool_id: bytes) -> int:
        """Return the sequence up to which every one of a spool is stored or tombstoned."""
        gaps = self.missing(robot_id).get(spool_id)
        if gaps:
            return gaps[0].start - 1
        with self._file.environment.begin() as transaction:
            name = spool_prefix(robot_id, spool_id)
            return read_entry(transaction, self._file.spools, name, SpoolLedger).highest

    def conflicts(self) -> list[StoredEpisode]:
        """Return the records that came under a key which another record had taken."""
        with self._file.environment.begin() as transaction:
            cursor = transaction.cursor(self._file.conflicts)
            return [StoredEpisode.unpacked(bytes(value)) for _, value in cursor]

    def size_bytes(self) -> int:
        """Return the size of the store's file."""
        return (self._folder / "data.mdb").stat().st_size

    def close(self) -> None:
        """Close the file; no method may be called afterwards."""
        self._file.environment.close()

    def _lacks_room_for(self, batch: Sequence[Arrival | Burial]) -> bool:
        # LMDB calls a write that was cut short by a full disk an input/output error.
        needed_bytes = sum(len(item.record) for item in batch if isinstance(item, Arrival))
        return shutil.disk_usage(self._folder).free < 2 * needed_bytes + _SLACK_BYTES

    def _log_after(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        # Copied out in one short transaction: an open one would keep old pages from being reused.
        with self._file.environment.begin() as transaction:
            cursor = transaction.cursor(self._file.log)
            found: list[tuple[int, bytes]] = []
            at_record = cursor.set_range(SEQUENCE.pack(after + 1))
            while at_record and len(found) < limit:
                found.append((SEQUENCE.unpack(cursor.key())[0], cursor.value()))
                at_record = cursor.next()
        return found

    def _sound(self, number: int, packed: bytes) -> StoredEpisode | None:
        try:
            return StoredEpisode.unpacked(packed)
        except StoreError as error:
            if number not in self._damaged:
                self._damaged.add(number)
                logger.warning("commit %d is left out: %s", number, error)
            return None


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
