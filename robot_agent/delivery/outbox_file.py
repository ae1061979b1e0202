"""The outbox's file: its schema, who may open it, and what its counts say."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from protocol.errors import ConfigurationError, OutboxError, OutboxFullError
from robot_agent.delivery.record_log import NOWHERE

logger = logging.getLogger(__name__)

FORMAT = 2
"""Since 2 records lie in a log beside the file. Those that waited in an outbox of format 1 stay in
the file until they are delivered."""
FILE_NAME = "outbox.sqlite3"
PAGE_BYTES = 4096
"""No less than what a disk or file system writes at once. A block that is torn when the power
fails during a checkpoint then holds pages of that checkpoint alone, and the log has them all; with
smaller pages it also holds their neighbours, which nothing repairs."""
_CHECKPOINT_PAGES = 256
_LOG_BYTES = (_CHECKPOINT_PAGES + 16) * (PAGE_BYTES + 24)
"""What the write-ahead log grows to, 1 MiB: it is written over from its begin once a transaction
has gone beyond the checkpoint's pages."""

_SCHEMA = (
    """CREATE TABLE outbox (
        format INTEGER NOT NULL, spool_id BLOB NOT NULL, written INTEGER NOT NULL,
        acked INTEGER NOT NULL, dropped INTEGER NOT NULL, refused INTEGER NOT NULL)""",
    """CREATE TABLE waiting (
        sequence INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, digest BLOB NOT NULL,
        record BLOB NOT NULL)""",
    """CREATE TABLE refused (
        sequence INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, digest BLOB NOT NULL,
        record BLOB NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
        refused_at_ns INTEGER NOT NULL)""",
    "CREATE TABLE tombstones (sequence INTEGER PRIMARY KEY, reason TEXT NOT NULL)",
    "INSERT INTO outbox VALUES (1, randomblob(16), 0, 0, 0, 0)",
)
_SINCE_2 = (
    # Where the next record goes in the log, and where each record stands. One in ``record`` itself
    # has no place.
    f"ALTER TABLE outbox ADD COLUMN segment INTEGER NOT NULL DEFAULT {NOWHERE.segment}",
    f"ALTER TABLE outbox ADD COLUMN next_offset INTEGER NOT NULL DEFAULT {NOWHERE.offset}",
    "ALTER TABLE waiting ADD COLUMN segment INTEGER",
    "ALTER TABLE waiting ADD COLUMN offset INTEGER",
    "UPDATE outbox SET format = 2",
)
_COUNTS = """SELECT spool_id, written, acked, dropped, refused,
    (SELECT count(*) FROM waiting), (SELECT coalesce(sum(bytes), 0) FROM waiting),
    (SELECT coalesce(sum(bytes), 0) FROM refused) FROM outbox"""
_COUNT_NAMES = (
    "spool_id",
    "written",
    "acked",
    "dropped",
    "refused",
    "waiting",
    "waiting_bytes",
    "refused_bytes",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxCounts:
    """What became of every sequence: written = acked + dropped + refused + waiting."""

    spool_id: bytes
    written: int
    acked: int
    dropped: int
    refused: int
    waiting: int
    waiting_bytes: int
    refused_bytes: int
    """Of the refused records that are still kept."""

    def plus(
        self,
        *,
        written: int = 0,
        acked: int = 0,
        dropped: int = 0,
        refused: int = 0,
        waiting_bytes: int = 0,
        refused_bytes: int = 0,
    ) -> OutboxCounts:
        """Return the counts after so many more of each; how many wait follows from that."""
        return OutboxCounts(
            spool_id=self.spool_id,
            written=self.written + written,
            acked=self.acked + acked,
            dropped=self.dropped + dropped,
            refused=self.refused + refused,
            waiting=self.waiting + written - acked - dropped - refused,
            waiting_bytes=self.waiting_bytes + waiting_bytes,
            refused_bytes=self.refused_bytes + refused_bytes,
        )


def claim(folder: Path) -> TextIO:
    """Make the folder and take it for this process.

    It is taken until the returned file is closed or the process ends.

    Raises:
        ConfigurationError: another process has it, or the folder cannot be written.
        OutboxFullError: the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "outbox.lock").open("a")
    except OSError as error:
        if is_disk_full(error):
            raise _cannot_begin(folder) from error
        raise ConfigurationError(
            f"state_folder {folder}: cannot be written: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise ConfigurationError(
            f"outbox {folder}: another agent has it open; give every robot its own state_folder"
        ) from error
    return lock


def open_outbox_file(path: Path) -> sqlite3.Connection:
    """Open the file for writing; make it, with a spool id of its own, if it is not there.

    Raises:
        ConfigurationError: it is damaged, not an outbox, or of another version.
        OutboxFullError: the disk is full.
    """
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        # Heeded only by a file that is still empty.
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        database.execute("PRAGMA synchronous = FULL")
        # On by default in some distributions; overwriting what was sent wears the SD card out.
        database.execute("PRAGMA secure_delete = OFF")
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone():
            _change(database, _SCHEMA)
        (found,) = database.execute("SELECT format FROM outbox").fetchone()
        if found == 1:
            found = FORMAT
            _change(database, _SINCE_2)
    except (sqlite3.Error, TypeError) as error:
        database.close()
        if is_disk_full(error):
            raise _cannot_begin(path) from error
        raise ConfigurationError(
            f"outbox {path}: cannot be used: {error}; move it away to begin a new one"
        ) from error
    if found != FORMAT:
        database.close()
        raise ConfigurationError(
            f"outbox {path}: format {found}, but this agent writes format {FORMAT}"
        )
    _reserve(path)
    return database


def is_disk_full(error: BaseException) -> bool:
    """Say whether a write failed because the disk has no room."""
    if isinstance(error, sqlite3.Error):
        # Of the second kind is a disk without room for the index of the write-ahead log.
        full = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
        return getattr(error, "sqlite_errorcode", None) in full
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def free_bytes(path: Path) -> int:
    """Return how much a file's disk has room for."""
    return shutil.disk_usage(path.parent).free


def outbox_error(path: Path, error: BaseException) -> OutboxError | OutboxFullError:
    """Say in words why the outbox could not be written."""
    if is_disk_full(error):
        return OutboxFullError(
            f"outbox {path}: the disk is full ({free_bytes(path)} bytes are free); free some space"
        )
    disk = next(folder for folder in path.resolve().parents if folder.is_mount())
    reason = error.strerror if isinstance(error, OSError) else error
    return OutboxError(
        f"outbox {path}: the disk at {disk} takes no writes: {reason}; replace the card: one that "
        "fails, or that the system has made read-only, is at its end (`dmesg` says more). Save the "
        "state folder from it, which holds what is not delivered"
    )


def _cannot_begin(path: Path) -> OutboxFullError:
    return OutboxFullError(
        f"outbox {path}: cannot be opened, the disk is full ({free_bytes(path)} bytes are free); "
        "free some space, nothing of it is lost"
    )


def _reserve(path: Path) -> None:
    """Give the write-ahead log its full size: what was acked can go when the disk is full later.

    SQLite takes the zeros for the end of the log, and deletes it when the outbox is closed.
    """
    log = os.open(f"{path}-wal", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(log, 0, _LOG_BYTES)
    except OSError as error:
        # What waits can be delivered all the same.
        logger.warning(
            "outbox %s: nothing is kept in reserve for a full disk: %s; %d bytes are free",
            *(path, error.strerror, free_bytes(path)),
        )
    finally:
        os.close(log)


def outbox_counts(folder: Path) -> OutboxCounts:
    """Read the counts of a robot's outbox, also while its agent runs.

    Raises:
        ConfigurationError: there is no outbox in this folder, or it cannot be read.
    """
    path = folder / FILE_NAME
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return read_counts(database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise ConfigurationError(f"outbox {path}: cannot be read: {error}") from error


def read_counts(database: sqlite3.Connection) -> OutboxCounts:
    """Read the counts over an open connection."""
    row = database.execute(_COUNTS).fetchone()
    return OutboxCounts(**dict(zip(_COUNT_NAMES, row, strict=True)))


def _change(database: sqlite3.Connection, statements: Iterable[str]) -> None:
    # One transaction: an agent killed here leaves no half-made outbox.
    database.execute("BEGIN IMMEDIATE")
    for statement in statements:
        database.execute(statement)
    database.execute("COMMIT")
