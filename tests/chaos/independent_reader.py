"""Counts what the episode store holds without a line of the learner's or the agents' code.

From the documented layout alone, with LMDB, struct, zlib, hashlib and the reference msgpack:

    table "log"   commit number: u64 big-endian -> value
    value         key size: u16, stored at: u64 ns, sha256: 32 bytes (little-endian), key, proof,
                  record; no proof where the key size's highest bit is not set
    proof         commit number: u64, record size: u32, CRC-32 of all before it: u32 (little-endian)
    key           robot name, a zero byte, spool id: 16 bytes, sequence: u64 big-endian
    record        "GFEP", version: u16, meta size: u32 (little-endian), meta: MessagePack, images
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import lmdb
import msgpack

from tests.chaos.journal import RobotJournal

_VALUE_HEAD = struct.Struct("<HQ32s")
_HAS_PROOF = 0x8000
_PROOF = struct.Struct("<QII")
_RECORD_HEAD = struct.Struct("<4sHI")
_KEY_TAIL = struct.Struct(">c16sQ")

Key = tuple[str, bytes, int]
"""Robot, spool id, sequence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """One record of the log."""

    key: Key
    digest: bytes
    """sha256 of the record's bytes, computed here."""
    is_sound: bool
    """Its digest is the one stored beside it, and its meta names the robot of its key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The store against what the robots spooled."""

    expected: int
    stored: int
    missing: tuple[Key, ...]
    doubled: tuple[Key, ...]
    """Sequences, or contents, that are in the log more than once."""
    altered: tuple[Key, ...]
    """Stored with another content than was spooled, or damaged."""
    unknown: tuple[Key, ...]
    """Stored although no robot spooled it."""
    left: int
    """Still in outboxes."""

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.doubled or self.altered or self.unknown or self.left)


def read_store(folder: Path) -> list[Stored]:
    """Read the log from its first record to its last."""
    environment = lmdb.open(str(folder), readonly=True, max_dbs=8, map_size=2**40)
    with environment:
        log = environment.open_db(b"log", create=False)
        with environment.begin(db=log) as transaction:
            return [_read_value(bytes(value)) for _, value in transaction.cursor()]


def _read_value(value: bytes) -> Stored:
    packed, named, record, is_proven = _split(value)
    robot = packed[: -_KEY_TAIL.size].decode()
    _, spool_id, sequence = _KEY_TAIL.unpack(packed[-_KEY_TAIL.size :])
    magic, _, meta_bytes = _RECORD_HEAD.unpack_from(record)
    meta = msgpack.unpackb(record[_RECORD_HEAD.size :][:meta_bytes])
    digest = hashlib.sha256(record).digest()
    is_whole = is_proven and magic == b"GFEP" and digest == named
    return Stored(
        key=(robot, spool_id, sequence),
        digest=digest,
        is_sound=is_whole and meta["robot_id"] == robot,
    )


def _split(value: bytes) -> tuple[bytes, bytes, bytes, bool]:
    """Return key, digest and record of a value, and whether its proof, if it has one, holds."""
    size, _, named = _VALUE_HEAD.unpack_from(value)
    key_end = _VALUE_HEAD.size + (size & ~_HAS_PROOF)
    key = value[_VALUE_HEAD.size : key_end]
    if not size & _HAS_PROOF:
        return key, named, value[key_end:], True
    _, record_bytes, checksum = _PROOF.unpack_from(value, key_end)
    begin = key_end + _PROOF.size
    is_proven = zlib.crc32(value[: begin - 4]) == checksum
    return key, named, value[begin : begin + record_bytes], is_proven


def read_outbox(path: Path) -> tuple[bytes, int, int]:
    """Return an outbox's id, how many sequences it gave out, and how many records it holds."""
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        spool_id, written = database.execute("SELECT spool_id, written FROM outbox").fetchone()
        (left,) = database.execute(
            "SELECT (SELECT count(*) FROM waiting) + (SELECT count(*) FROM refused)"
        ).fetchone()
    finally:
        database.close()
    return spool_id, written, left


def compare(
    stored: Iterable[Stored], outboxes: Mapping[str, Path], journals: Mapping[str, RobotJournal]
) -> Comparison:
    """Compare the log with the robots' own accounts.

    Args:
        stored: every record of the log.
        outboxes: robot -> its outbox file: which sequences it ever gave out.
        journals: robot -> what it wrote down of its spooling; a real agent has none.
    """
    records = list(stored)
    accounts = {robot: read_outbox(path) for robot, path in outboxes.items()}
    # The journal counts by itself: a sequence that the outbox forgot having given out is missing.
    expected = {key for robot, journal in journals.items() for key in _keys(robot, journal)}
    expected |= {
        (robot, spool_id, sequence)
        for robot, (spool_id, written, _) in accounts.items()
        for sequence in range(1, written + 1)
    }
    counts = Counter(one.key for one in records)
    contents = Counter(one.digest for one in records)
    return Comparison(
        expected=len(expected),
        stored=len(records),
        missing=tuple(sorted(expected - counts.keys())),
        doubled=tuple(one.key for one in records if counts[one.key] + contents[one.digest] > 2),
        altered=tuple(one.key for one in records if not _is_as_spooled(one, journals)),
        unknown=tuple(sorted(counts.keys() - expected)),
        left=sum(left for _, _, left in accounts.values()),
    )


def _keys(robot: str, journal: RobotJournal) -> list[Key]:
    return [(robot, spool_id, sequence) for spool_id, sequence in journal.spooled]


def _is_as_spooled(one: Stored, journals: Mapping[str, RobotJournal]) -> bool:
    robot, spool_id, sequence = one.key
    journal = journals.get(robot)
    if journal is None or not one.is_sound:
        return one.is_sound
    spooled = journal.spooled.get((spool_id, sequence))
    return one.digest == spooled if spooled else one.digest in journal.unfinished
