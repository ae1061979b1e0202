"""The episode store: every record once, in LMDB, keyed by robot, spool and sequence.

One process writes; any number read by memory map meanwhile, in processes of their own (LMDB
allows one open environment per process and folder).
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb
import msgspec

from learner.store.accounts import RESCUE_ADVICE, StoreAccounts
from learner.store.age import StoreAge
from learner.store.copies import retire_copies
from learner.store.file import open_store_file
from learner.store.ledger import StoreAccount
from learner.store.retention import KEEP_ALL, Retention, RetentionLimits
from learner.store.stored_episode import (
    SEQUENCE,
    Arrival,
    Burial,
    RecordKey,
    StoredEpisode,
    Verdict,
    spool_prefix,
)
from learner.store.transaction import StoreTransaction, last_number
from protocol.errors import StoreError, StoreFullError

logger = logging.getLogger(__name__)

_SLACK_BYTES = 65_536
"""What a commit may write besides the records, roughly."""


class EpisodeStore(StoreAccounts):
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
        super().__init__(folder, open_store_file(folder, max_bytes=max_bytes, readonly=readonly))
        self._now_ns = now_ns
        self._age = StoreAge(self._file, monotonic_s)
        self._retention = Retention(self._file, self._age, keep, now_ns)
        self._damaged: set[int] = set()
        self._writer = threading.Lock()
        """Held by who writes: what is removed is looked at first, without LMDB."""

    def commit(
        self, batch: Sequence[Arrival | Burial], on_written: Callable[[], None] = lambda: None
    ) -> list[Verdict]:
        """Store a batch in one transaction; when this returns, it is on disk.

        Args:
            batch: what is stored.
            on_written: called when all that is left is the disk's work.

        Raises:
            StoreFullError: the disk or the size limit is reached; nothing of the batch was stored.
            StoreError: the disk failed or the store is damaged; nothing of the batch was stored.
        """
        try:
            return self._commit(batch, on_written)
        except StoreFullError:
            # A reader that was killed holds pages until somebody looks whether it lives.
            if not self._file.environment.reader_check():
                raise
        return self._commit(batch, on_written)

    def _commit(
        self, batch: Sequence[Arrival | Burial], on_written: Callable[[], None]
    ) -> list[Verdict]:
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
            on_written()
        return verdicts

    def retire_some(self) -> bool:
        """Retire some of the oldest records beyond what is kept; True when there may be more.

        One bounded transaction; belongs to the thread that commits. Of a damaged store nothing is
        retired; the account says so.

        Raises:
            StoreFullError, StoreError: as ``commit``; nothing was retired.
        """
        with self._writing(0):
            return self._retention.retire_some() is not None

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Iterable[int]
    ) -> dict[int, bytes]:
        """Return the digests of those records that are kept here and sound, by sequence."""
        found: dict[int, bytes] = {}
        for sequence in sequences:
            with suppress(StoreError):
                key = RecordKey(robot_id=robot_id, spool_id=spool_id, sequence=sequence)
                if (stored := self.get(key)) is not None:
                    found[sequence] = stored.digest
        return found

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        """Remove records that another store of the fleet keeps; any thread may ask.

        Returns:
            Their sequences. See copies.retire_copies.

        Raises:
            StoreFullError, StoreError: nothing was removed.
        """
        with self._writing(0):
            name = spool_prefix(robot_id, spool_id)
            return retire_copies(self._file, name, digests, self._now_ns())

    def account(self) -> StoreAccount:
        """Return what the store holds of everyone, and what of it is damaged."""
        found = super().account()
        if not self._retention.damage:
            return found
        damage = f"{self._retention.damage}; {found.damage or RESCUE_ADVICE}"
        return dataclasses.replace(found, damage=damage)

    def first_commit(self) -> int:
        """Return the number of the oldest record that is kept; 0 when it cannot be found."""
        try:
            with self._reading() as transaction:
                cursor = transaction.cursor(self._file.log)
                return int(SEQUENCE.unpack(cursor.key())[0]) if cursor.first() else 0
        except StoreError:
            return 0

    def tail(
        self, after: int, limit: int, last: int | None = None
    ) -> list[tuple[int, StoredEpisode]]:
        """Return up to ``limit`` episodes with their commit numbers, all above ``after``.

        None is above ``last``, if that is given: where many are gone, the next may be far on.
        Numbers have gaps where records were retired. A damaged record is reported to the log and
        left out; so are those that a damaged page hides.

        Raises:
            StoreError: the store is so damaged that not even its newest record can be found.
        """
        while packed := self._log_after(after, limit, last):
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

    def retired_keys(self) -> Iterator[RecordKey]:
        """Yield the key of every record that was retired."""
        with self._reading() as transaction:
            for key, entry in transaction.cursor(self._file.index):
                if len(entry) > SEQUENCE.size:
                    yield RecordKey.unpacked(key)

    def tombstoned_keys(self) -> Iterator[RecordKey]:
        """Yield the key of every record that will never come."""
        with self._reading() as transaction:
            for key in transaction.cursor(self._file.tombstones).iternext(values=False):
                yield RecordKey.unpacked(key)

    def conflicts(self) -> list[StoredEpisode]:
        """Return the records that came under a key which another record had taken.

        Damaged ones are left out.
        """
        with self._reading() as transaction:
            packed = [bytes(value) for _, value in transaction.cursor(self._file.conflicts)]
        return [episode for value in packed if (episode := self._sound(0, value)) is not None]

    def size_bytes(self) -> int:
        """Return the size of the store's file."""
        return (self._folder / "data.mdb").stat().st_size

    def close(self) -> None:
        """Close the file; no method may be called afterwards."""
        self._file.close()

    @contextmanager
    def _writing(self, needed_bytes: int) -> Iterator[None]:
        try:
            with self._writer:
                yield
        except lmdb.Error as error:
            if isinstance(error, lmdb.MapFullError) or self._lacks_room_for(needed_bytes):
                raise StoreFullError(
                    f"episode store {self._folder}: full at {self.size_bytes()} bytes ({error}); "
                    f"{self._retention.advice}"
                ) from error
            raise StoreError(f"episode store {self._folder}: write failed: {error}") from error
        except (msgspec.MsgspecError, struct.error, SystemError) as error:
            # LMDB's binding raises SystemError for a value whose size cannot be.
            raise StoreError(f"episode store {self._folder}: damaged: {error}") from error

    def _lacks_room_for(self, needed_bytes: int) -> bool:
        # LMDB calls a write that was cut short by a full disk an input/output error.
        return shutil.disk_usage(self._folder).free < 2 * needed_bytes + _SLACK_BYTES

    def _log_after(self, after: int, limit: int, last: int | None) -> list[tuple[int, bytes]]:
        # Copied out in short transactions: an open one would keep old pages from being reused.
        # Asked number by number: LMDB ends the process when a cursor steps onto a damaged page,
        # but answers with an error when a search comes to one; that ends the transaction only.
        found: list[tuple[int, bytes]] = []
        with self._reading() as transaction:
            newest = last_number(transaction, self._file.log)
        last = newest if last is None else min(last, newest)
        number = max(after, self.first_commit() - 1)
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
