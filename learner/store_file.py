"""The episode store's LMDB file: opened only when its format and its size are what they must be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from protocol.errors import ConfigurationError, StoreError

FORMAT = b"1"
_MAX_READERS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreFile:
    """An open environment and its tables.

    A record's key is robot, spool, sequence; commit numbers count from 1 without a gap.
    """

    environment: Any
    log: Any
    """Commit number -> key, digest, time and record, in the order of arrival."""
    index: Any
    """Key -> commit number."""
    conflicts: Any
    """Key and digest -> a record that came under a key which was taken by another."""
    tombstones: Any
    """Key -> why the robot will never send it."""
    spools: Any
    """Robot and spool -> SpoolLedger."""
    tallies: Any
    """Robot -> Tally."""


def open_store_file(folder: Path, *, max_bytes: int, readonly: bool) -> StoreFile:
    """Open the store of ``folder``; make it if it is not there and may be written.

    Raises:
        StoreError: there is none to read, it is cut short, or it is of another format.
        ConfigurationError: the folder cannot be written.
    """
    data = folder / "data.mdb"
    if readonly and not data.exists():
        raise StoreError(f"episode store {folder}: there is none yet")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        environment = lmdb.open(
            str(folder),
            map_size=max_bytes,
            max_dbs=8,
            max_readers=_MAX_READERS,
            readonly=readonly,
            meminit=False,
            # Replay reads at random; reading ahead would evict what it needs.
            readahead=False,
        )
    except OSError as error:
        raise ConfigurationError(f"episode store {folder}: {error.strerror}") from error
    except lmdb.Error as error:
        raise StoreError(f"episode store {folder}: cannot be opened: {error}") from error
    try:
        return _open_tables(environment, data, readonly=readonly)
    except BaseException:
        environment.close()
        raise


def _open_tables(environment: Any, data: Path, *, readonly: bool) -> StoreFile:  # noqa: ANN401
    # The map of a file that is cut short ends the process at the first page that is not there.
    needed_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    actual_bytes = data.stat().st_size
    if actual_bytes < needed_bytes:
        raise StoreError(
            f"episode store {data}: {actual_bytes} bytes of {needed_bytes} are there; it was cut "
            "short: restore it from a copy or move it away"
        )
    environment.reader_check()
    try:
        meta = environment.open_db(b"meta", create=not readonly)
        _check_format(environment, meta, data, readonly=readonly)
        names = ("log", "index", "conflicts", "tombstones", "spools", "tallies")
        tables = {name: environment.open_db(name.encode(), create=not readonly) for name in names}
    except lmdb.Error as error:
        raise StoreError(f"episode store {data}: not one of ours: {error}") from error
    return StoreFile(environment=environment, **tables)


def _check_format(environment: Any, meta: Any, data: Path, *, readonly: bool) -> None:  # noqa: ANN401
    with environment.begin(db=meta, write=not readonly) as transaction:
        found = transaction.get(b"format")
        if found is None and not readonly:
            transaction.put(b"format", FORMAT)
            found = FORMAT
    if found != FORMAT:
        raise StoreError(
            f"episode store {data}: format {found!r}, but this learner reads {FORMAT!r}"
        )
