"""What goes into the episode store and what comes out of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

from protocol.codec import digest as digest_of
from protocol.errors import StoreError

SEQUENCE = struct.Struct(">Q")
"""Big-endian, so that LMDB's order is the order of the numbers."""
_SPOOL_BYTES = 16
_HEAD = struct.Struct("<HQ32s")
"""Size of the key, time of storing (UTC ns), digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordKey:
    """Identifies one record for ever: the robot as authenticated, its outbox, its sequence."""

    robot_id: str
    spool_id: bytes
    sequence: int

    def packed(self) -> bytes:
        """Return the store's key; keys of one spool sort by sequence."""
        return spool_prefix(self.robot_id, self.spool_id) + SEQUENCE.pack(self.sequence)

    @classmethod
    def unpacked(cls, packed: bytes) -> RecordKey:
        """Read a store's key."""
        robot, rest = packed[: -_SPOOL_BYTES - 9], packed[-_SPOOL_BYTES - 8 :]
        return cls(
            robot_id=robot.decode(),
            spool_id=rest[:_SPOOL_BYTES],
            sequence=SEQUENCE.unpack(rest[_SPOOL_BYTES:])[0],
        )

    def __str__(self) -> str:
        return f"{self.robot_id}/{self.spool_id.hex()[:8]}/{self.sequence}"


def pack_stored(key: bytes, stored_at_ns: int, digest: bytes, record: bytes) -> bytes:
    """Return a value of the store's log; ``StoredEpisode.unpacked`` reads it."""
    return b"".join((_HEAD.pack(len(key), stored_at_ns, digest), key, record))


def digest_in(packed: bytes) -> bytes:
    """Return the digest that a value of the log was stored with."""
    return bytes(_HEAD.unpack_from(packed)[2])


def robot_prefix(robot_id: str) -> bytes:
    """Return what the keys of a robot's spools begin with."""
    return robot_id.encode() + b"\0"


def spool_prefix(robot_id: str, spool_id: bytes) -> bytes:
    """Return what the keys of a spool's records begin with."""
    return robot_prefix(robot_id) + spool_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """An admitted record that asks to be stored."""

    key: RecordKey
    digest: bytes
    record: bytes
    letter: str
    """How the attempt ended; see ``store_ledger.letter_of``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Burial:
    """Sequences that a robot will never send."""

    robot_id: str
    spool_id: bytes
    sequence: int
    last_sequence: int
    reason: str


class Verdict(StrEnum):
    """What became of an arrival or a burial; all of them are acked."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    BURIED = "buried"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEpisode:
    """A record as the store holds it."""

    key: RecordKey
    digest: bytes
    stored_at_ns: int
    record: bytes

    @classmethod
    def unpacked(cls, packed: bytes) -> StoredEpisode:
        """Read a value of the log.

        Raises:
            StoreError: the record is not the one that was stored.
        """
        try:
            key_bytes, stored_at_ns, digest = _HEAD.unpack_from(packed)
            key_end = _HEAD.size + key_bytes
            key = RecordKey.unpacked(packed[_HEAD.size : key_end])
        except (struct.error, UnicodeDecodeError) as error:
            raise StoreError(f"stored record of {len(packed)} bytes is damaged: {error}") from error
        record = packed[key_end:]
        if digest_of(record) != digest:
            raise StoreError(f"stored record {key} is damaged: its digest does not match")
        return cls(key=key, digest=digest, stored_at_ns=stored_at_ns, record=record)
