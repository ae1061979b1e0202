"""The oldest records of a store, looked at before they may go.

LMDB trusts its pages. It frees the run of pages that a damaged one names, be it another record's,
and steps onto a page that is none until the process ends. So whatever a deletion would touch is
read here first, by plain reads: at the first sign of damage nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from learner.store.lmdb_pages import PageFile, Row
from learner.store.stored_episode import SEQUENCE, StoredEpisode
from protocol.errors import StoreError

_LAST_KEY = b"\xff" * SEQUENCE.size


@dataclass(frozen=True, kw_only=True, slots=True)
class OldRecord:
    """A record whose value, whose index entry and all pages between are sound."""

    number: int
    key: bytes
    digest: bytes
    value_bytes: int


def oldest_records(path: Path) -> Generator[OldRecord]:
    """Yield the records of a store's file in the order of their commits, each one inspected.

    Nobody may write meanwhile.

    Raises:
        StoreError: the next record, or a page that deleting it would touch, is damaged.
    """
    with PageFile(path) as pages:
        pages.inspect_begin("log")
        _read_beside(pages)
        known_spools: set[bytes] = set()
        for row in pages.rows("log"):
            _check_pages(pages)
            record = inspected(pages, row)
            spool = record.key[: -SEQUENCE.size]
            if spool not in known_spools and pages.look_up("spools", spool) is None:
                raise StoreError(f"commit {record.number}: the ledger of its spool is not there")
            known_spools.add(spool)
            _check_pages(pages)
            yield record
        _check_pages(pages)


def _read_beside(pages: PageFile) -> None:
    """Read what else a retirement writes to."""
    for table in ("meta", "ages"):
        for _ in pages.rows(table):
            pass
    pages.look_up("retirements", _LAST_KEY)
    _check_pages(pages)


def inspected(pages: PageFile, row: Row) -> OldRecord:
    """Return a record that is whole, with the pages that removing it would free.

    Raises:
        StoreError: it is not.
    """
    number = SEQUENCE.unpack(row.key)[0] if len(row.key) == SEQUENCE.size else 0
    try:
        episode = StoredEpisode.unpacked(row.value)
    except StoreError as error:
        raise StoreError(f"commit {number}: {error}") from error
    if episode.is_proven and episode.number != number:
        raise StoreError(f"commit {number}: the record of commit {episode.number} is in its place")
    if not pages.has_own_pages(row):
        raise StoreError(f"commit {number}: the pages of its record are damaged")
    key = episode.key.packed()
    if pages.look_up("index", key) != row.key:
        raise StoreError(f"commit {number}: the index does not lead from {episode.key} to it")
    return OldRecord(number=number, key=key, digest=episode.digest, value_bytes=len(row.value))


def _check_pages(pages: PageFile) -> None:
    if pages.damaged_pages:
        raise StoreError(f"page {min(pages.damaged_pages)} of the file is damaged")
