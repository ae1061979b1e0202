"""Retention: the oldest episodes go, by age and by size, and the ledger says so.

What remains of a retired record is its key and its digest, for ever: sent again it is known.
At the first sign of damage nothing is retired any more: room is not worth a record.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from learner.store.age import StoreAge
from learner.store.file import StoreFile
from learner.store.ledger import Retirement, SpoolLedger
from learner.store.oldest import OldRecord, oldest_records
from learner.store.stored_episode import SEQUENCE
from learner.store.transaction import last_number, read_entry
from protocol.errors import StoreError

logger = logging.getLogger(__name__)

PIECE = 512
"""Records retired in one transaction at most: as many as one group commit may add."""
_STATEMENT_RECORDS = 4096
"""One statement of the ledger covers about so many records."""
_DAMAGE = (
    StoreError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    msgspec.MsgspecError,
    struct.error,
    SystemError,  # LMDB's binding, of a size that cannot be
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionLimits:
    """What a store keeps."""

    age_s: float = 0.0
    """Of service (see StoreAge); 0 keeps for ever."""
    log_bytes: int = 0
    """Pages that episodes may take up; 0 keeps until the store is full."""


KEEP_ALL = RetentionLimits()


class Retention:
    """Retires a store's oldest records, a bounded piece at a time; on the writer's thread."""

    def __init__(
        self, file: StoreFile, age: StoreAge, limits: RetentionLimits, now_ns: Callable[[], int]
    ) -> None:
        self._file = file
        self._age = age
        self._limits = limits
        self._now_ns = now_ns
        self._data = Path(file.environment.path()) / "data.mdb"
        self._first_number = 0
        """Of the oldest record, or lower."""
        self.damage = ""
        """Why nothing is retired any more, until a learner starts with a sound store."""

    @property
    def advice(self) -> str:
        """What to do when the store is full."""
        if self.damage:
            return self.damage
        more = "make room or raise gateway.max_store_bytes"
        return more if self._limits.log_bytes else f"{more}, or set gateway.keep_bytes"

    def retire_some(self, at_most: int = PIECE) -> Retirement | None:
        """Retire up to ``at_most`` records; return what was done, None when nothing was due.

        The newest record always stays, so that commit numbers go on where they were. Of a
        damaged store nothing is retired: see ``damage``.
        """
        if self.damage:
            return None
        try:
            return self._retire_some(at_most)
        except _DAMAGE as error:
            self.damage = f"nothing is retired any more, and the store will get full: {error}"
            logger.error("%s", self.damage)  # noqa: TRY400
            return None

    def _retire_some(self, at_most: int) -> Retirement | None:
        with self._file.environment.begin() as transaction:
            last = last_number(transaction, self._file.log)
            old_through = min(self._old_through(transaction), last - 1)
            excess_bytes = self._excess_bytes(transaction)
        reason, records = self._due(last, old_through, excess_bytes, at_most)
        if not records and not self._age.is_mark_due:
            return None
        piece = None
        with self._file.environment.begin(write=True) as transaction:
            self._age.mark(transaction, last)
            if records:
                if old_through > 0:
                    self._age.forget_older_than(transaction, self._limits.age_s)
                piece = self._retire(transaction, reason, records)
        if piece is not None:
            logger.info(
                "retired %d episodes by %s: commits %d to %d, %d bytes; their keys and digests "
                "are kept",
                *(piece.records, piece.reason, piece.first_number, piece.last_number),
                piece.record_bytes,
            )
        return piece

    def _due(
        self, last: int, old_through: int, excess_bytes: int, at_most: int
    ) -> tuple[str, list[OldRecord]]:
        """Return the records that go now, every one of them inspected, and why they do."""
        records: list[OldRecord] = []
        is_due = old_through >= max(1, self._first_number) or excess_bytes > 0
        if not is_due or self._first_number >= last:
            return "", records
        # What a reader that was killed still holds would not become room.
        self._file.environment.reader_check()
        reason, freed_bytes = "", 0
        with closing(oldest_records(self._data)) as oldest:
            for record in oldest:
                self._first_number = record.number
                reason = reason or ("age" if record.number <= old_through else "size")
                is_old = record.number <= old_through
                is_wanted = is_old if reason == "age" else freed_bytes < excess_bytes
                if not is_wanted or record.number >= last or len(records) == at_most:
                    break
                records.append(record)
                freed_bytes += record.value_bytes
        return reason, records

    def _retire(
        self,
        transaction: Any,  # noqa: ANN401
        reason: str,
        records: list[OldRecord],
    ) -> Retirement:
        for record in records:
            number = SEQUENCE.pack(record.number)
            transaction.put(record.key, number + record.digest, db=self._file.index)
            transaction.delete(number, db=self._file.log)
        for name, retired in Counter(one.key[: -SEQUENCE.size] for one in records).items():
            spool = read_entry(transaction, self._file.spools, name, SpoolLedger)
            spool = msgspec.structs.replace(spool, retired=spool.retired + retired)
            transaction.put(name, msgspec.msgpack.encode(spool), db=self._file.spools)
        now_ns = self._now_ns()
        piece = Retirement(
            reason=reason,
            first_number=records[0].number,
            last_number=records[-1].number,
            records=len(records),
            record_bytes=sum(record.value_bytes for record in records),
            began_at_ns=now_ns,
            ended_at_ns=now_ns,
        )
        self._state(transaction, piece)
        return piece

    def _state(self, transaction: Any, piece: Retirement) -> None:  # noqa: ANN401
        cursor = transaction.cursor(self._file.retirements)
        # Copies that went (see copies) may be stated behind it.
        is_behind = cursor.set_range(SEQUENCE.pack(piece.first_number))
        if cursor.prev() if is_behind else cursor.last():
            before = msgspec.msgpack.decode(cursor.value(), type=Retirement)
            if before.reason == piece.reason and before.records < _STATEMENT_RECORDS:
                piece = before.joined(piece)
        name = SEQUENCE.pack(piece.first_number)
        transaction.put(name, msgspec.msgpack.encode(piece), db=self._file.retirements)

    def _old_through(self, transaction: Any) -> int:  # noqa: ANN401
        if not self._limits.age_s:
            return 0
        return self._age.last_older_than(transaction, self._limits.age_s)

    def _excess_bytes(self, transaction: Any) -> int:  # noqa: ANN401
        if not self._limits.log_bytes:
            return 0
        return self._file.log_bytes(transaction) - self._limits.log_bytes
