"""What goes into the episode store and what comes out of it."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from protocol.codec import digest as digest_of
from protocol.errors import StoreError

SEQUENCE = struct.Struct(">Q")
"""Big-endian, so that LMDB's order is the order of the numbers."""
_SPOOL_BYTES = 16
_HEAD = struct.Struct("<HQ32s")
"""Size of the key, time of storing (UTC ns), digest."""
_PROVEN = 0x8000
"""Set in the size of a key: a proof stands between key and record. Format 1 had none."""
PROVEN_BEGIN = re.compile(rb"[\x1a-\x59]\x80", re.DOTALL)
"""How a value with a proof begins: the size of a key whose robot's name has 1 to 64 characters."""
PROVEN_HEAD_BYTES = 160
"""Enough of such a value for ``proven_bytes``."""
_PROOF = struct.Struct("<QII")
"""Commit number (0 for a conflict), bytes of the record, CRC-32 of all that stands before it.

The digest proves the record; this proves whose it is, also to a reader that finds it by
looking through the pages of a broken file.
"""


class RecordKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Identifies one record for ever: the robot as authenticated, its outbox, its sequence."""

    robot_id: str
    spool_id: bytes
    sequence: int

    def packed(self) -> bytes:
        """Return the store's key; keys of one spool sort by sequence."""
        return spool_prefix(self.robot_id, self.spool_id) + SEQUENCE.pack(self.sequence)

    @classmethod
    def unpacked(cls, packed: bytes) -> RecordKey:
        """Read a store's key.

        Raises:
            ValueError: it is none.
        """
        robot, rest = packed[: -_SPOOL_BYTES - 9], packed[-_SPOOL_BYTES - 9 :]
        if not robot or rest[:1] != b"\0":
            raise ValueError(f"a key of {len(packed)} bytes names no robot")
        return cls(
            robot_id=robot.decode(),
            spool_id=rest[1 : 1 + _SPOOL_BYTES],
            sequence=SEQUENCE.unpack(rest[1 + _SPOOL_BYTES :])[0],
        )

    def __str__(self) -> str:
        return f"{self.robot_id}/{self.spool_id.hex()[:8]}/{self.sequence}"


def pack_stored(
    key: bytes, record: bytes | memoryview, *, number: int, stored_at_ns: int, digest: bytes
) -> bytes:
    """Return a value of the store's log; ``StoredEpisode.unpacked`` reads it."""
    head = _HEAD.pack(len(key) | _PROVEN, stored_at_ns, digest) + key
    proof = struct.pack("<QI", number, len(record))
    return b"".join((head, proof, struct.pack("<I", zlib.crc32(head + proof)), record))


def proven_bytes(packed: bytes) -> int:
    """Return how long the value is that begins here; 0 if none does that proves itself."""
    if len(packed) < _HEAD.size:
        return 0
    proof_at = _HEAD.size + (_HEAD.unpack_from(packed)[0] & ~_PROVEN)
    if len(packed) < proof_at + _PROOF.size:
        return 0
    _, record_bytes, found = _PROOF.unpack_from(packed, proof_at)
    end = proof_at + _PROOF.size
    return end + int(record_bytes) if zlib.crc32(packed[: end - 4]) == found else 0


def robot_prefix(robot_id: str) -> bytes:
    """Return what the keys of a robot's spools begin with."""
    return robot_id.encode() + b"\0"


def robot_of(key: bytes) -> bytes:
    """Return the name that the key of a spool, or of one of its records, begins with."""
    return key.partition(b"\0")[0]


def spool_prefix(robot_id: str, spool_id: bytes) -> bytes:
    """Return what the keys of a spool's records begin with."""
    return robot_prefix(robot_id) + spool_id


class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An admitted record that asks to be stored."""

    key: RecordKey
    digest: bytes
    record: bytes | memoryview
    letter: str
    """How the attempt ended; see ``ledger.letter_of``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Burial:
    """Sequences that a robot will never send."""

    robot_id: str
    spool_id: bytes
    sequence: int
    last_sequence: int
    reason: str


class Verdict(StrEnum):
    """What became of an arrival or a burial; all but the refused are acked."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    BURIED = "buried"
    REFUSED = "refused"
    """A conflict beyond those that are kept of one robot; nothing was stored."""
    TOO_MANY_SPOOLS = "too-many-spools"
    """It would begin a spool beyond those that are kept of one robot; nothing was stored."""
    TOO_MANY_TOMBSTONES = "too-many-tombstones"
    """Beyond those that are kept of one robot; nothing was stored."""
    TOMBSTONES_FULL = "tombstones-full"
    """Beyond those that are kept of all robots; nothing was stored."""

    @property
    def is_refused(self) -> bool:
        """Say whether nothing was stored, and never will be."""
        return self in _REFUSED


_REFUSED = frozenset(
    {
        Verdict.REFUSED,
        Verdict.TOO_MANY_SPOOLS,
        Verdict.TOO_MANY_TOMBSTONES,
        Verdict.TOMBSTONES_FULL,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEpisode:
    """A record as the store holds it."""

    key: RecordKey
    digest: bytes
    stored_at_ns: int
    """By the learner's wall clock, for people to read: no order or age comes from it."""
    number: int
    """Of its commit; 0 when it is a conflict or was stored in format 1, which did not note it."""
    is_proven: bool
    """False in format 1: the record is what was stored, its key was not under a checksum."""
    record: bytes

    @classmethod
    def unpacked(cls, packed: bytes) -> StoredEpisode:
        """Read a value of the log. Bytes behind a proven record are not its own and are ignored.

        Raises:
            StoreError: the record is not the one that was stored.
        """
        try:
            size, stored_at_ns, digest = _HEAD.unpack_from(packed)
            key_end = _HEAD.size + (size & ~_PROVEN)
            key = RecordKey.unpacked(bytes(packed[_HEAD.size : key_end]))
            number, begin, end = 0, key_end, len(packed)
            if size & _PROVEN:
                number, record_bytes, found = _PROOF.unpack_from(packed, key_end)
                begin = key_end + _PROOF.size
                end = begin + record_bytes
                if zlib.crc32(packed[: begin - 4]) != found:
                    raise StoreError(f"stored record of {len(packed)} bytes: its key is damaged")
        except (struct.error, ValueError) as error:
            raise StoreError(f"stored record of {len(packed)} bytes is damaged: {error}") from error
        record = bytes(packed[begin:end])
        if digest_of(record) != digest:
            raise StoreError(f"stored record {key} is damaged: its digest does not match")
        return cls(
            key=key,
            digest=digest,
            stored_at_ns=stored_at_ns,
            number=number,
            is_proven=bool(size & _PROVEN),
            record=record,
        )
