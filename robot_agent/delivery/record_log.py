"""Where the outbox keeps its records: files that are written once, and over again when empty.

A segment is a file of frames, each beginning a block of its own:

    magic (4 bytes) | record size: u32 | sequence: u64 | sha256 of the record
    | CRC-32 of all before it: u32 | record                              (numbers little-endian)

A frame is on disk when ``append`` returns, without a database's log having had it first. Which
frames still count is the outbox's index to say; frames that the index has not heard of, as after a
loss of power, are found by their sequences.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.codec import digest as digest_of
from protocol.errors import ConfigurationError
from protocol.key_files import sync_folder

SEGMENT_BYTES = 512 * 2**10
"""A larger record has a segment of its own."""
BLOCK_BYTES = 4096
"""No less than what a disk or file system writes at once: a block that is torn when the power fails
then holds nothing of the record before."""

_MAGIC = b"GFOB"
_HEAD = struct.Struct("<4sIQ32s")
_CHECKSUM = struct.Struct("<I")
_HEAD_BYTES = _HEAD.size + _CHECKSUM.size


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a frame begins."""

    segment: int
    offset: int

    def after(self, record_bytes: int) -> Place:
        """Return where the next frame begins when this one's record has so many bytes."""
        blocks = -(-(_HEAD_BYTES + record_bytes) // BLOCK_BYTES)
        return Place(segment=self.segment, offset=self.offset + blocks * BLOCK_BYTES)

    def has_room(self, record_bytes: int) -> bool:
        """Say whether a record may stand here."""
        return not self.offset or self.after(record_bytes).offset <= SEGMENT_BYTES


NOWHERE = Place(segment=-1, offset=SEGMENT_BYTES)
"""Where nothing has room: an outbox that has no segment yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedRecord:
    """A whole frame that was found."""

    place: Place
    sequence: int
    digest: bytes
    record_bytes: int


class RecordLog:
    """The segments of one outbox. Does not know which of them are in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self, segment: int) -> None:
        """Make a segment of the full size; one that is there is taken as it is.

        With its size settled, the file system has less to write for every record. On a full disk
        it is here that there is no room, and not in the middle of a record.

        Raises:
            OSError: it cannot be made.
        """
        self._folder.mkdir(exist_ok=True)
        with self._opened(segment, os.O_RDWR | os.O_CREAT) as file:
            try:
                os.posix_fallocate(file, 0, SEGMENT_BYTES)
            except OSError:
                if os.fstat(file).st_size < SEGMENT_BYTES:
                    self._path(segment).unlink()
                raise
            os.fsync(file)
        for folder in (self._folder, self._folder.parent):
            sync_folder(folder)

    def check(self, place: Place, record_bytes: int) -> None:
        """Check that a segment is there up to the end of a record.

        Raises:
            ConfigurationError: it is not.
        """
        path = self._path(place.segment)
        needed = place.offset + _HEAD_BYTES + record_bytes
        found = path.stat().st_size if path.is_file() else 0
        if found < needed:
            raise ConfigurationError(
                f"outbox: {path} has {found} bytes, but its records end at {needed}; put the file "
                "back, or move the whole outbox away to begin a new one"
            )

    def append(self, place: Place, sequence: int, digest: bytes, record: bytes) -> None:
        """Write a frame over whatever was there; it is on disk when this returns.

        Raises:
            OSError: it could not be written. What follows may be written to the same place.
        """
        head = _HEAD.pack(_MAGIC, len(record), sequence, digest)
        frame_bytes = place.after(len(record)).offset - place.offset
        # Whole blocks: a part of one would have to be read first.
        padding = bytes(frame_bytes - _HEAD_BYTES - len(record))
        frame = b"".join([head, _CHECKSUM.pack(zlib.crc32(head)), record, padding])
        with self._opened(place.segment, os.O_WRONLY) as file:
            written = os.pwrite(file, frame, place.offset)
            while written < frame_bytes:
                written += os.pwrite(file, frame[written:], place.offset + written)
            os.fdatasync(file)

    def read(self, place: Place, record_bytes: int) -> bytes:
        """Return the record of a frame as it is; whoever takes it compares its digest."""
        return self._read(place, _HEAD_BYTES + record_bytes)[_HEAD_BYTES:]

    def follow(self, place: Place, sequence: int) -> Iterator[LoggedRecord]:
        """Yield the whole frames from ``place`` on that count up from ``sequence``."""
        while self.has(place.segment) and (found := self._found_at(place, sequence)):
            yield found
            place, sequence = place.after(found.record_bytes), sequence + 1

    def has(self, segment: int) -> bool:
        """Say whether a segment is there."""
        return self._path(segment).is_file()

    def _found_at(self, place: Place, sequence: int) -> LoggedRecord | None:
        head = self._read(place, _HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            return None
        magic, record_bytes, found, digest = _HEAD.unpack_from(head)
        (checksum,) = _CHECKSUM.unpack_from(head, _HEAD.size)
        if (magic, found, checksum) != (_MAGIC, sequence, zlib.crc32(head[: _HEAD.size])):
            return None
        if digest_of(self.read(place, record_bytes)) != digest:
            return None
        return LoggedRecord(
            place=place, sequence=sequence, digest=digest, record_bytes=record_bytes
        )

    def _read(self, place: Place, size_bytes: int) -> bytes:
        with self._opened(place.segment, os.O_RDONLY) as file:
            return os.pread(file, size_bytes, place.offset)

    @contextmanager
    def _opened(self, segment: int, flags: int) -> Iterator[int]:
        file = os.open(self._path(segment), flags | os.O_CLOEXEC, 0o644)
        try:
            yield file
        finally:
            os.close(file)

    def _path(self, segment: int) -> Path:
        return self._folder / str(segment)
