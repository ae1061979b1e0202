"""One write transaction of the episode store."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any, TypeVar

import msgspec

from learner.store.file import StoreFile
from learner.store.ledger import SpoolLedger, Tally
from learner.store.stored_episode import (
    SEQUENCE,
    Arrival,
    Burial,
    RecordKey,
    StoredEpisode,
    Verdict,
    pack_stored,
    robot_prefix,
    spool_prefix,
)
from protocol.errors import StoreError
from protocol.limits import MAX_TOMBSTONE_REASON_BYTES, MAX_TOMBSTONES, MAX_TOMBSTONES_SHARE

logger = logging.getLogger(__name__)

CONFLICTS_KEPT = 200
"""Of one robot. Nothing retires them, so without a limit one robot could fill the store of all."""
SPOOLS_KEPT = 1_000
"""Of one robot, which begins one with each new outbox; every report of a gateway names them all."""

S = TypeVar("S", bound=msgspec.Struct)


class StoreTransaction:
    """Takes arrivals and burials one by one; nothing counts until ``finish`` and the commit."""

    def __init__(self, transaction: Any, file: StoreFile, now_ns: int) -> None:  # noqa: ANN401
        self._transaction = transaction
        self._file = file
        self._number = last_number(transaction, file.log)
        self._now_ns = now_ns
        self._letters: defaultdict[str, list[str]] = defaultdict(list)
        self._tallies: dict[bytes, Tally] = {}
        self._spools: dict[bytes, SpoolLedger] = {}
        self._spool_counts: dict[str, int] = {}
        """Of robots that began a spool in this transaction."""
        self._tombstone_counts: dict[str, int] = {}
        """Of robots that gave something up in this transaction."""

    @property
    def last_number(self) -> int:
        """The highest commit number so far."""
        return self._number

    def take(self, item: Arrival | Burial) -> Verdict:
        """Note one item; return what became of it."""
        return self._bury(item) if isinstance(item, Burial) else self._store(item)

    def finish(self) -> None:
        """Write the ledgers that the items changed."""
        for robot_id, letters in self._letters.items():
            tally = self._tally(robot_id).with_attempts("".join(letters))
            self._tallies[robot_id.encode()] = tally
        for name, tally in self._tallies.items():
            self._transaction.put(name, msgspec.msgpack.encode(tally), db=self._file.tallies)
        for name, spool in self._spools.items():
            self._transaction.put(name, msgspec.msgpack.encode(spool), db=self._file.spools)

    def _store(self, arrival: Arrival) -> Verdict:
        key = arrival.key.packed()
        # One look into the index that also writes: most keys are new.
        is_new = self._transaction.put(
            key, SEQUENCE.pack(self._number + 1), db=self._file.index, overwrite=False
        )
        if is_new:
            return self._append(key, arrival)
        number = self._transaction.get(key, db=self._file.index)
        if self._first_digest(number, arrival) != arrival.digest:
            kept = self._transaction.get(key + arrival.digest, db=self._file.conflicts)
            if kept is None:
                return self._keep_conflict(key, arrival)
        tally = self._tally(arrival.key.robot_id)
        self._set_tally(
            arrival.key, msgspec.structs.replace(tally, duplicates=tally.duplicates + 1)
        )
        return Verdict.DUPLICATE

    def _first_digest(self, entry: bytes, arrival: Arrival) -> bytes:
        """Return the digest of what was stored first; if that rotted, what came is kept instead."""
        number, retired_digest = entry[: SEQUENCE.size], entry[SEQUENCE.size :]
        if retired_digest:
            return retired_digest
        commit = SEQUENCE.unpack(number)[0]
        try:
            return self._sound_digest(commit)
        except StoreError as error:
            logger.error(  # noqa: TRY400
                "commit %d: %s; the robot sent it again, and that is kept instead", commit, error
            )
        # Under a number of its own: what rotted stays, for LMDB would free the pages that its
        # damaged ones name.
        key = arrival.key.packed()
        self._transaction.put(key, SEQUENCE.pack(self._number + 1), db=self._file.index)
        self._log(key, arrival)
        return arrival.digest

    def _sound_digest(self, commit: int) -> bytes:
        packed = self._transaction.get(SEQUENCE.pack(commit), db=self._file.log) or b""
        episode = StoredEpisode.unpacked(packed)
        if episode.is_proven and episode.number != commit:
            raise StoreError(f"it holds the record of commit {episode.number}")
        return episode.digest

    def _log(self, key: bytes, arrival: Arrival) -> None:
        """Write a record under the next number, which the index names already."""
        self._number += 1
        value = self._value(key, arrival, self._number)
        self._transaction.put(SEQUENCE.pack(self._number), value, db=self._file.log, append=True)

    def _append(self, key: bytes, arrival: Arrival) -> Verdict:
        """Store a record whose key was put into the index, unless it begins a spool too many."""
        name = key[: -SEQUENCE.size]
        spool = self._spool(name)
        if not spool.highest and not self._may_begin_spool(arrival.key.robot_id):
            self._transaction.delete(key, db=self._file.index)
            return Verdict.TOO_MANY_SPOOLS
        self._log(key, arrival)
        self._letters[arrival.key.robot_id].append(arrival.letter)
        # A robot whose disk came back may yet send what it had given up.
        was_buried = spool.tombstoned and self._transaction.delete(key, db=self._file.tombstones)
        self._spools[name] = msgspec.structs.replace(
            spool,
            stored=spool.stored + 1,
            tombstoned=spool.tombstoned - was_buried,
            highest=max(spool.highest, arrival.key.sequence),
        )
        return Verdict.STORED

    def _keep_conflict(self, key: bytes, arrival: Arrival) -> Verdict:
        """Keep a second record under a taken key, unless the robot has too many of them."""
        tally = self._tally(arrival.key.robot_id)
        if tally.conflicts >= CONFLICTS_KEPT:
            return Verdict.REFUSED
        self._transaction.put(
            key + arrival.digest, self._value(key, arrival, 0), db=self._file.conflicts
        )
        self._set_tally(arrival.key, msgspec.structs.replace(tally, conflicts=tally.conflicts + 1))
        logger.error(
            "two different episodes under the key %s; both are kept. Was the robot's disk "
            "copied to another robot, or restored from a backup?",
            arrival.key,
        )
        return Verdict.CONFLICT

    def _bury(self, burial: Burial) -> Verdict:
        name = spool_prefix(burial.robot_id, burial.spool_id)
        spool = self._spool(name)
        if not spool.highest and not self._may_begin_spool(burial.robot_id):
            return Verdict.TOO_MANY_SPOOLS
        new = self._not_buried(name, burial)
        if new and (refused := self._refuse_tombstones(burial.robot_id, len(new))):
            return refused
        reason = burial.reason.encode()[:MAX_TOMBSTONE_REASON_BYTES].decode(errors="ignore")
        for key in new:
            self._transaction.put(key, reason.encode(), db=self._file.tombstones)
        self._spools[name] = msgspec.structs.replace(
            spool,
            tombstoned=spool.tombstoned + len(new),
            highest=max(spool.highest, burial.last_sequence),
        )
        return Verdict.BURIED

    def _not_buried(self, name: bytes, burial: Burial) -> list[bytes]:
        """Return the keys that neither came nor were given up before."""
        keys = (
            name + SEQUENCE.pack(sequence)
            for sequence in range(burial.sequence, burial.last_sequence + 1)
        )
        tables = (self._file.index, self._file.tombstones)
        return [
            key
            for key in keys
            if all(self._transaction.get(key, db=table) is None for table in tables)
        ]

    def _refuse_tombstones(self, robot_id: str, new: int) -> Verdict | None:
        """Count what a robot gives up; return why it is too much, if it is."""
        if self._file.tombstone_share(self._transaction) > MAX_TOMBSTONES_SHARE:
            return Verdict.TOMBSTONES_FULL
        count = self._tombstone_counts.get(robot_id)
        if count is None:
            count = self._stored_tombstones(robot_id)
        is_too_many = count + new > MAX_TOMBSTONES
        self._tombstone_counts[robot_id] = count if is_too_many else count + new
        return Verdict.TOO_MANY_TOMBSTONES if is_too_many else None

    def _value(self, key: bytes, arrival: Arrival, number: int) -> bytes:
        return pack_stored(
            key,
            arrival.record,
            number=number,
            stored_at_ns=self._now_ns,
            digest=arrival.digest,
        )

    def _tally(self, robot_id: str) -> Tally:
        name = robot_id.encode()
        if name not in self._tallies:
            self._tallies[name] = read_entry(self._transaction, self._file.tallies, name, Tally)
        return self._tallies[name]

    def _set_tally(self, key: RecordKey, tally: Tally) -> None:
        self._tallies[key.robot_id.encode()] = tally

    def _spool(self, name: bytes) -> SpoolLedger:
        """Return a spool's ledger; that of a new one has no highest sequence."""
        known = self._spools.get(name)
        if known is not None:
            return known
        return read_entry(self._transaction, self._file.spools, name, SpoolLedger)

    def _may_begin_spool(self, robot_id: str) -> bool:
        """Count one more spool of a robot; False when that is too many."""
        count = self._spool_counts.get(robot_id)
        if count is None:
            count = self._stored_spools(robot_id)
        self._spool_counts[robot_id] = min(count + 1, SPOOLS_KEPT)
        return count < SPOOLS_KEPT

    def _stored_spools(self, robot_id: str) -> int:
        """Return how many spools of a robot were there before, SPOOLS_KEPT at most."""
        return sum(1 for _ in islice(self._spool_names(robot_id), SPOOLS_KEPT))

    def _stored_tombstones(self, robot_id: str) -> int:
        """Return how many sequences a robot has given up in all of its spools."""
        return sum(self._spool(name).tombstoned for name in self._spool_names(robot_id))

    def _spool_names(self, robot_id: str) -> Iterator[bytes]:
        """Yield the names of the spools that a robot had before this transaction."""
        prefix = robot_prefix(robot_id)
        cursor = self._transaction.cursor(self._file.spools)
        names = cursor.iternext(values=False) if cursor.set_range(prefix) else iter(())
        return takewhile(lambda name: name.startswith(prefix), names)


def last_number(transaction: Any, log: Any) -> int:  # noqa: ANN401
    """Return the highest commit number; 0 when the log is empty."""
    cursor = transaction.cursor(log)
    return int(SEQUENCE.unpack(cursor.key())[0]) if cursor.last() else 0


def read_entry(transaction: Any, table: Any, name: bytes, kind: type[S]) -> S:  # noqa: ANN401
    """Return a ledger entry; an empty one when there is none.

    Raises:
        StoreError: it is damaged.
    """
    value = transaction.get(name, db=table)
    try:
        return kind() if value is None else msgspec.msgpack.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise StoreError(f"the store's ledger of {name!r} is damaged: {error}") from error
