"""The episode store's LMDB file: opened only when its format and its size are what they must be."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from learner.store.writer_lock import WriterLock
from protocol.errors import ConfigurationError, StoreError, StoreFullError

FORMAT = b"2"
_UPGRADED = (b"1",)
"""Formats that this one extends: their records are read as they are, and a writer goes on in the
new format. An older learner refuses the file from then on."""
TABLES = ("log", "index", "conflicts", "tombstones", "spools", "tallies", "retirements", "ages")
_STORE_ID = b"store_id"
_MAX_READERS = 256
_LEAST_FREE_BYTES = 1_000_000
"""On the disk of a new store. LMDB maps its lock file, which is all holes at first; a page that the
disk has no room for ends the process."""
_RESCUE = "save what is whole of it with `fleet episodes export --store {folder} --to NEW`"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreFile:
    """An open environment and its tables.

    A record's key is robot, spool, sequence. Commit numbers count from 1; numbers of retired
    records are never given again.
    """

    environment: Any
    lock: WriterLock | None
    """Of a writer."""
    store_id: bytes
    """Drawn when the store was made; empty while only an older learner has written to it."""
    meta: Any
    """``format``, ``store_id``, and ``service_s``: how long a learner has had the store open (see
    StoreAge)."""
    log: Any
    """Commit number -> key, digest, time and record, in the order of arrival."""
    index: Any
    """Key -> commit number; of a retired record, commit number and digest."""
    conflicts: Any
    """Key and digest -> a record that came under a key which was taken by another."""
    tombstones: Any
    """Key -> why the robot will never send it."""
    spools: Any
    """Robot and spool -> SpoolLedger."""
    tallies: Any
    """Robot -> Tally."""
    retirements: Any
    """First commit number -> Retirement: what was removed to make room, and why."""
    ages: Any
    """Hour of service -> the highest commit number by the end of it (see StoreAge)."""

    def close(self) -> None:
        """Close the file, and let the next writer in."""
        self.environment.close()
        if self.lock is not None:
            self.lock.release()

    def log_bytes(self, transaction: Any) -> int:  # noqa: ANN401
        """Return the size of the pages that the episodes take up.

        The file itself never shrinks: pages of retired records are used again.
        """
        return _table_bytes(transaction, self.log)

    def tombstone_share(self, transaction: Any) -> float:  # noqa: ANN401
        """Return which share of the store's size limit tombstones take up."""
        limit_bytes = self.environment.info()["map_size"]
        return _table_bytes(transaction, self.tombstones) / float(limit_bytes)


def _table_bytes(transaction: Any, table: Any) -> int:  # noqa: ANN401
    """Return the size of the pages that a table takes up."""
    found = transaction.stat(table)
    pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
    return int(pages * found["psize"])


def open_store_file(folder: Path, *, max_bytes: int, readonly: bool) -> StoreFile:
    """Open the store of ``folder``; make it if it is not there and may be written.

    Raises:
        StoreError: there is none to read, it is cut short, or it is of another format.
        StoreFullError: the disk has no room for a new one.
        ConfigurationError: the folder cannot be written, or another process writes to it.
    """
    data = folder / "data.mdb"
    if readonly and not data.exists():
        raise StoreError(f"episode store {folder}: there is none yet")
    if readonly and not data.stat().st_size:
        raise StoreError(f"episode store {data}: the file is empty")
    lock = None
    try:
        if not readonly:
            folder.mkdir(parents=True, exist_ok=True)
            lock = WriterLock(folder)
            _check_room(folder)
        return _open(folder, lock, max_bytes=max_bytes)
    except BaseException as error:
        if lock is not None:
            lock.release()
        if isinstance(error, OSError):
            raise ConfigurationError(f"episode store {folder}: {error.strerror}") from error
        raise


def _open(folder: Path, lock: WriterLock | None, *, max_bytes: int) -> StoreFile:
    """Open the store of a folder; to write only with its lock."""
    try:
        environment = lmdb.open(
            str(folder),
            map_size=max_bytes,
            max_dbs=len(TABLES) + 1,
            max_readers=_MAX_READERS,
            readonly=lock is None,
            # Replay reads at random; reading ahead would evict what it needs.
            readahead=False,
        )
    except lmdb.Error as error:
        is_broken = isinstance(error, lmdb.InvalidError | lmdb.CorruptedError)
        advice = f"; {_RESCUE.format(folder=folder)}" if is_broken else ""
        raise StoreError(f"episode store {folder}: cannot be opened: {error}{advice}") from error
    try:
        return _open_tables(environment, folder / "data.mdb", lock)
    except BaseException:
        environment.close()
        raise


def _check_room(folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < _LEAST_FREE_BYTES and not (folder / "lock.mdb").exists():
        raise StoreFullError(
            f"episode store {folder}: its disk has {free_bytes} bytes free, and a new store takes "
            f"{_LEAST_FREE_BYTES}; make room"
        )


def _open_tables(environment: Any, data: Path, lock: WriterLock | None) -> StoreFile:  # noqa: ANN401
    readonly = lock is None
    # The map of a file that is cut short ends the process at the first page that is not there.
    needed_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    actual_bytes = data.stat().st_size
    if actual_bytes < needed_bytes:
        raise StoreError(
            f"episode store {data}: {actual_bytes} bytes of {needed_bytes} are there; it was cut "
            f"short: {_RESCUE.format(folder=data.parent)}, move it away, go on with the new one"
        )
    environment.reader_check()
    try:
        meta = environment.open_db(b"meta", create=not readonly)
        found = _check_format(environment, meta, data, readonly=readonly)
        # A reader of an older format's file finds the newer tables nowhere.
        tables = {
            name: environment.open_db(name.encode(), create=not readonly)
            for name in (TABLES if found == FORMAT else TABLES[:6])
        }
    except lmdb.Error as error:
        raise StoreError(
            f"episode store {data}: not one of ours, or damaged: {error}; "
            f"{_RESCUE.format(folder=data.parent)}"
        ) from error
    tables = dict.fromkeys(TABLES) | tables
    with environment.begin(db=meta) as transaction:
        store_id = transaction.get(_STORE_ID) or b""
    return StoreFile(environment=environment, lock=lock, store_id=store_id, meta=meta, **tables)


def _check_format(environment: Any, meta: Any, data: Path, *, readonly: bool) -> bytes:  # noqa: ANN401
    """Return the file's format; a writer's is the newest from now on."""
    with environment.begin(db=meta, write=not readonly) as transaction:
        found = transaction.get(b"format")
        is_new = found is None and not readonly
        if not is_new and found not in (FORMAT, *_UPGRADED):
            raise StoreError(
                f"episode store {data}: format {found!r}, but this learner reads {FORMAT!r}"
            )
        if readonly:
            return bytes(found)
        if found != FORMAT:
            transaction.put(b"format", FORMAT)
        if transaction.get(_STORE_ID) is None:
            transaction.put(_STORE_ID, secrets.token_bytes(16))
    return FORMAT
