"""Copies: records that another store of the same fleet has as well.

A robot whose ack was lost with its gateway delivers to another one what the first has stored. When
both are there again, one of the two records goes. As with retention its key and its digest stay,
and every page that the removal touches is looked at first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from learner.store.copy import letter_in, ranges
from learner.store.file import StoreFile
from learner.store.ledger import Retirement, SpoolLedger, Tally
from learner.store.lmdb_pages import PageFile
from learner.store.oldest import OldRecord, inspected
from learner.store.stored_episode import SEQUENCE, StoredEpisode, robot_of
from learner.store.transaction import last_number, read_entry
from protocol.errors import StoreError

logger = logging.getLogger(__name__)

REASON = "copy"
"""Of the statement that is made of each removal."""


def retire_copies(
    file: StoreFile, name: bytes, digests: Mapping[int, bytes], now_ns: int
) -> list[int]:
    """Remove records whose copies another store keeps; return their sequences.

    A record that is not kept here, or is another one than the copy, stays as it is. So does the
    newest one of the store: commit numbers go on from it.

    Args:
        file: the store, to which nobody else writes meanwhile.
        name: robot and spool, see ``spool_prefix``.
        digests: of the copies, by sequence.
        now_ns: UTC, for the statement.

    Raises:
        StoreError: a record or a page beside it is damaged; nothing was removed.
    """
    with file.environment.begin() as transaction:
        entries = {
            sequence: transaction.get(name + SEQUENCE.pack(sequence), db=file.index)
            for sequence in sorted(digests)
        }
        newest = SEQUENCE.pack(last_number(transaction, file.log))
    kept = {
        sequence: entry
        for sequence, entry in entries.items()
        if entry and len(entry) == SEQUENCE.size and entry != newest
    }
    records: dict[int, OldRecord] = {}
    letters: dict[int, str] = {}
    with PageFile(Path(file.environment.path()) / "data.mdb") as pages:
        for sequence, number in kept.items():
            row = pages.find("log", number)
            if row is None:
                raise StoreError(f"commit {SEQUENCE.unpack(number)[0]}: the log has lost it")
            record = inspected(pages, row)
            if record.digest == digests[sequence]:
                records[sequence] = record
                letters[sequence] = letter_in(StoredEpisode.unpacked(row.value).record)
        _look_beside(pages, (record.number for record in records.values()))
    if records:
        with file.environment.begin(write=True) as transaction:
            _remove(transaction, file, name, records, "".join(letters.values()), now_ns)
        logger.info(
            "%s: %d episodes are kept by another store, and no longer here",
            robot_of(name).decode(),
            len(records),
        )
    return list(records)


def _look_beside(pages: PageFile, numbers: Iterable[int]) -> None:
    """Read the pages that LMDB may join when these records go."""
    pages.inspect_around("log", map(SEQUENCE.pack, numbers))
    if pages.damaged_pages:
        raise StoreError(f"page {min(pages.damaged_pages)} of the file is damaged")


def _remove(
    transaction: Any,  # noqa: ANN401
    file: StoreFile,
    name: bytes,
    records: Mapping[int, OldRecord],
    letters: str,
    now_ns: int,
) -> None:
    for record in records.values():
        number = SEQUENCE.pack(record.number)
        transaction.put(record.key, number + record.digest, db=file.index)
        transaction.delete(number, db=file.log)
    spool = read_entry(transaction, file.spools, name, SpoolLedger)
    spool = msgspec.structs.replace(spool, retired=spool.retired + len(records))
    transaction.put(name, msgspec.msgpack.encode(spool), db=file.spools)
    robot = robot_of(name)
    tally = read_entry(transaction, file.tallies, robot, Tally).without_attempts(letters)
    transaction.put(robot, msgspec.msgpack.encode(tally), db=file.tallies)
    sizes = {record.number: record.value_bytes for record in records.values()}
    for run in ranges(sizes):
        statement = Retirement(
            reason=REASON,
            first_number=run.start,
            last_number=run.stop - 1,
            records=len(run),
            record_bytes=sum(sizes[number] for number in run),
            began_at_ns=now_ns,
            ended_at_ns=now_ns,
        )
        begin = SEQUENCE.pack(run.start)
        transaction.put(begin, msgspec.msgpack.encode(statement), db=file.retirements)
