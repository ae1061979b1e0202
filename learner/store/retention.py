"""Retention: the oldest episodes go, by age and by size, and the ledger says so.

What remains of a retired record is its key and its digest, for ever: sent again it is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from learner.store.age import StoreAge
from learner.store.file import StoreFile
from learner.store.ledger import Retirement, SpoolLedger
from learner.store.stored_episode import SEQUENCE, digest_in, key_in
from learner.store.transaction import last_number, read_entry

logger = logging.getLogger(__name__)

PIECE = 512
"""Records retired in one transaction at most: as many as one group commit may add."""
_STATEMENT_RECORDS = 4096
"""One statement of the ledger covers about so many records."""


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

    def retire_some(self, at_most: int = PIECE) -> Retirement | None:
        """Retire up to ``at_most`` records; return what was done, None when nothing was due.

        The newest record always stays, so that commit numbers go on where they were.
        """
        with self._file.environment.begin() as transaction:
            if not self._is_due(transaction) and not self._age.is_mark_due:
                return None
        with self._file.environment.begin(write=True) as transaction:
            self._age.mark(transaction, last_number(transaction, self._file.log))
            piece = self._retire_by_age(transaction, at_most)
            piece = piece or self._retire_by_size(transaction, at_most)
            if piece is not None:
                self._state(transaction, piece)
        if piece is not None:
            logger.info(
                "retired %d episodes by %s: commits %d to %d, %d bytes; their keys and digests "
                "are kept",
                *(piece.records, piece.reason, piece.first_number, piece.last_number),
                piece.record_bytes,
            )
        return piece

    def _is_due(self, transaction: Any) -> bool:  # noqa: ANN401
        first, last = self._ends(transaction)
        if first >= last:
            return False
        return first <= self._old_through(transaction) or self._excess_bytes(transaction) > 0

    def _retire_by_age(self, transaction: Any, at_most: int) -> Retirement | None:  # noqa: ANN401
        through = self._old_through(transaction)
        if through:
            self._age.forget_older_than(transaction, self._limits.age_s)
        return self._retire(transaction, "age", at_most, through=through)

    def _retire_by_size(self, transaction: Any, at_most: int) -> Retirement | None:  # noqa: ANN401
        excess_bytes = self._excess_bytes(transaction)
        if excess_bytes <= 0:
            return None
        return self._retire(transaction, "size", at_most, excess_bytes=excess_bytes)

    def _retire(
        self,
        transaction: Any,  # noqa: ANN401
        reason: str,
        at_most: int,
        *,
        through: int | None = None,
        excess_bytes: int | None = None,
    ) -> Retirement | None:
        first, last = self._ends(transaction)
        number, records, freed_bytes = first, 0, 0
        cursor = transaction.cursor(self._file.log)
        while records < at_most and cursor.first():
            following = SEQUENCE.unpack(cursor.key())[0]
            is_enough = excess_bytes is not None and freed_bytes >= excess_bytes
            if is_enough or following >= last or (through is not None and following > through):
                break
            number = following
            freed_bytes += len(cursor.value())
            self._reduce_to_digest(transaction, cursor.key(), cursor.value())
            cursor.delete()
            records += 1
        if not records:
            return None
        now_ns = self._now_ns()
        return Retirement(
            reason=reason,
            first_number=first,
            last_number=number,
            records=records,
            record_bytes=freed_bytes,
            began_at_ns=now_ns,
            ended_at_ns=now_ns,
        )

    def _reduce_to_digest(self, transaction: Any, number: bytes, value: bytes) -> None:  # noqa: ANN401
        key = self._key_of(transaction, number, value)
        if key is None:
            return  # nothing leads to this record; there is nothing to remember of it
        transaction.put(key, number + digest_in(value), db=self._file.index)
        name = key[: -SEQUENCE.size]
        spool = read_entry(transaction, self._file.spools, name, SpoolLedger)
        spool = msgspec.structs.replace(spool, retired=spool.retired + 1)
        transaction.put(name, msgspec.msgpack.encode(spool), db=self._file.spools)

    def _key_of(self, transaction: Any, number: bytes, value: bytes) -> bytes | None:  # noqa: ANN401
        key = key_in(value)
        if key and transaction.get(key, db=self._file.index) == number:
            return key
        # The record rotted: only the index still knows whose it was.
        for name, found in transaction.cursor(self._file.index):
            if found == number:
                return bytes(name)
        return None

    def _state(self, transaction: Any, piece: Retirement) -> None:  # noqa: ANN401
        cursor = transaction.cursor(self._file.retirements)
        if cursor.last():
            before = msgspec.msgpack.decode(cursor.value(), type=Retirement)
            if before.reason == piece.reason and before.records < _STATEMENT_RECORDS:
                piece = before.joined(piece)
        name = SEQUENCE.pack(piece.first_number)
        transaction.put(name, msgspec.msgpack.encode(piece), db=self._file.retirements)

    def _ends(self, transaction: Any) -> tuple[int, int]:  # noqa: ANN401
        cursor = transaction.cursor(self._file.log)
        first = SEQUENCE.unpack(cursor.key())[0] if cursor.first() else 0
        return first, last_number(transaction, self._file.log)

    def _old_through(self, transaction: Any) -> int:  # noqa: ANN401
        if not self._limits.age_s:
            return 0
        return self._age.last_older_than(transaction, self._limits.age_s)

    def _excess_bytes(self, transaction: Any) -> int:  # noqa: ANN401
        if not self._limits.log_bytes:
            return 0
        return self._file.log_bytes(transaction) - self._limits.log_bytes
