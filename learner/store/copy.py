"""A new episode store that is filled with what could be read of another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from learner.store.file import open_store_file
from learner.store.ledger import Retirement, SpoolLedger, Tally, letter_of
from learner.store.lmdb_pages import Row
from learner.store.sequence_set import SequenceSet
from learner.store.stored_episode import SEQUENCE, RecordKey, StoredEpisode
from protocol.codec import read_episode_meta
from protocol.errors import RejectedEpisodeError

_AT_ONCE_BYTES = 32 * 2**20
_LOST = b"lost: the store was damaged"
_DIGEST_BYTES = 32
S = TypeVar("S", bound=msgspec.Struct)


class StoreCopy:
    """Takes rows that were read from a store of doubtful health; keeps what makes sense."""

    def __init__(self, folder: Path, max_bytes: int, robot: str | None) -> None:
        """Begin a store in ``folder``; take only what is of ``robot``, if one is named."""
        self.robot = robot
        self._file = open_store_file(folder, max_bytes=max_bytes, readonly=False)
        self._transaction = self._file.environment.begin(write=True)
        self._waiting_bytes = 0
        self._highest: dict[bytes, int] = {}
        self._tallies: dict[str, Tally] = {}
        self._letters: defaultdict[str, list[str]] = defaultdict(list)
        self._retired = SequenceSet()
        """Commit numbers, of all statements: those about copies stand within others."""

    def take_ledgers(
        self, spools: Iterable[Row], tallies: Iterable[Row], retirements: Iterable[Row]
    ) -> None:
        """Take the accounts; how many of what there is, is counted anew in the end."""
        for row in spools:
            spool = _decoded(row.value, SpoolLedger)
            key = _key(row.key + SEQUENCE.pack(0))
            if spool is not None and key is not None and self._wants(key.robot_id):
                self._highest.setdefault(row.key, spool.highest if spool.missing >= 0 else 0)
        for row in tallies:
            tally, name = _decoded(row.value, Tally), row.key.decode(errors="replace")
            if tally is not None and self._wants(name):
                self._tallies.setdefault(name, tally)
        retired: list[range] = []
        for row in retirements:
            statement = _decoded(row.value, Retirement)
            if statement is not None and row.key == SEQUENCE.pack(statement.first_number):
                retired.append(range(statement.first_number, statement.last_number + 1))
                self._put("retirements", row.key, row.value)
        self._retired |= SequenceSet(retired)

    def take_retired(self, index: Iterable[Row]) -> int:
        """Take the keys and digests of retired records; return how many."""
        taken = 0
        for row in index:
            key = _key(row.key)
            is_retired = len(row.value) == SEQUENCE.size + _DIGEST_BYTES
            if is_retired and key is not None and self._wants(key.robot_id):
                taken += self._put("index", row.key, row.value)
        return taken

    def take_record(self, number: int, episode: StoredEpisode, value: bytes) -> bool:
        """Take a record; False when its key has one, or was retired, or is not wanted."""
        key = episode.key.packed()
        if not number or not self._wants(episode.key.robot_id):
            return False
        if self._transaction.get(key, db=self._file.index) is not None:
            return False
        if number in self._retired or not self._put("log", SEQUENCE.pack(number), value):
            return False  # written by a commit that failed; its number went to another record
        self._put("index", key, SEQUENCE.pack(number))
        if episode.key.robot_id not in self._tallies:
            self._letters[episode.key.robot_id].append(letter_in(episode.record))
        self._commit_now_and_then(len(value))
        return True

    def take_conflict(self, episode: StoredEpisode, value: bytes) -> bool:
        """Take a record that came under a taken key."""
        if not self._wants(episode.key.robot_id):
            return False
        self._commit_now_and_then(len(value))
        return self._put("conflicts", episode.key.packed() + episode.digest, value)

    def bury_lost(self, index: Iterable[Row]) -> dict[str, dict[bytes, list[range]]]:
        """Bury what the index knows and nobody brought; return it by robot and spool."""
        lost: defaultdict[str, defaultdict[bytes, list[int]]]
        lost = defaultdict(lambda: defaultdict(list))
        for row in index:
            key = _key(row.key)
            if len(row.value) != SEQUENCE.size or key is None or not self._wants(key.robot_id):
                continue
            if self._transaction.get(row.key, db=self._file.index) is None:
                is_retired = SEQUENCE.unpack(row.value)[0] in self._retired
                reason = b"retired, and its digest was lost" if is_retired else _LOST
                if self._put("tombstones", row.key, reason) and not is_retired:
                    lost[key.robot_id][key.spool_id].append(key.sequence)
        return {
            robot: {spool: ranges(found) for spool, found in spools.items()}
            for robot, spools in lost.items()
        }

    def take_tombstones(self, tombstones: Iterable[Row]) -> int:
        """Take what robots said they will never send; return how many sequences."""
        taken = 0
        for row in tombstones:
            key = _key(row.key)
            if key is None or not self._wants(key.robot_id):
                continue
            if self._transaction.get(row.key, db=self._file.index) is None:
                taken += self._put("tombstones", row.key, row.value)
        return taken

    def finish(self) -> None:
        """Write the ledgers and sync; the store is complete."""
        for name, spool in self._counted().items():
            self._put("spools", name, msgspec.msgpack.encode(spool))
        for robot_id, letters in self._letters.items():
            self._tallies[robot_id] = Tally().with_attempts("".join(letters))
        for robot_id, tally in self._tallies.items():
            self._put("tallies", robot_id.encode(), msgspec.msgpack.encode(tally))
        self._transaction.commit()
        self._file.environment.sync(True)

    def close(self) -> None:
        """Close the file, finished or not."""
        self._transaction.abort()
        self._file.close()

    def _counted(self) -> dict[bytes, SpoolLedger]:
        """Count every spool anew, from the rows that are there."""
        found = {name: SpoolLedger(highest=highest) for name, highest in self._highest.items()}
        for key, entry in self._transaction.cursor(self._file.index):
            spool, sequence = _spool_of(found, key)
            found[key[: -SEQUENCE.size]] = msgspec.structs.replace(
                spool,
                stored=spool.stored + 1,
                retired=spool.retired + (len(entry) > SEQUENCE.size),
                highest=max(spool.highest, sequence),
            )
        for key, _ in self._transaction.cursor(self._file.tombstones):
            spool, sequence = _spool_of(found, key)
            found[key[: -SEQUENCE.size]] = msgspec.structs.replace(
                spool, tombstoned=spool.tombstoned + 1, highest=max(spool.highest, sequence)
            )
        return found

    def _wants(self, robot_id: str) -> bool:
        return self.robot in (None, robot_id)

    def _put(self, table: str, key: bytes, value: bytes) -> bool:
        """Write a row unless its key is taken; say whether it was written."""
        taken = getattr(self._file, table)
        return bool(self._transaction.put(key, value, db=taken, overwrite=False))

    def _commit_now_and_then(self, written_bytes: int) -> None:
        self._waiting_bytes += written_bytes
        if self._waiting_bytes >= _AT_ONCE_BYTES:
            self._transaction.commit()
            self._transaction = self._file.environment.begin(write=True)
            self._waiting_bytes = 0


def ranges(sequences: Iterable[int]) -> list[range]:
    """Return the runs of consecutive numbers."""
    found: list[range] = []
    for sequence in sorted(sequences):
        if found and sequence == found[-1].stop:
            found[-1] = range(found[-1].start, sequence + 1)
        else:
            found.append(range(sequence, sequence + 1))
    return found


def _spool_of(found: dict[bytes, SpoolLedger], key: bytes) -> tuple[SpoolLedger, int]:
    spool = found.get(key[: -SEQUENCE.size], SpoolLedger())
    return spool, SEQUENCE.unpack(key[-SEQUENCE.size :])[0]


def _key(packed: bytes) -> RecordKey | None:
    try:
        return RecordKey.unpacked(packed)
    except ValueError:
        return None


def _decoded(value: bytes, kind: type[S]) -> S | None:
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except msgspec.MsgspecError:
        return None


def letter_in(record: bytes) -> str:
    """Return how the attempt of a record ended, as ``letter_of`` says it."""
    try:
        meta = read_episode_meta(record)
    except RejectedEpisodeError:
        return "a"
    return letter_of(meta.outcome.label, meta.mode)
