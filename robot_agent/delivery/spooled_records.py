"""The records that wait in an outbox: bytes in the log, places in the outbox's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from robot_agent.delivery.record_log import NOWHERE, Place, RecordLog


class SpooledRecords:
    """Every method belongs into a transaction of the caller's, but for those that only read.

    What the log has and the index has not is found when it is opened. So an index that lost its
    last changes with the power costs no record; some that were acked are sent once more.
    """

    def __init__(self, database: sqlite3.Connection, folder: Path) -> None:
        """Take the outbox's open file; the log is beside it in ``folder``."""
        self._database = database
        (spool_id,) = database.execute("SELECT spool_id FROM outbox").fetchone()
        self._log = RecordLog(folder / f"outbox-{spool_id.hex()[:8]}")
        self.next_place = NOWHERE
        """Of the next record. The caller sets it when its transaction has succeeded."""

    def recover(self) -> None:
        """Check that every record is there, and index those that are not in the index.

        Raises:
            ConfigurationError: a segment of the log is gone or was cut.
        """
        rows = self._database.execute(
            "SELECT segment, max(offset), bytes FROM waiting WHERE segment IS NOT NULL "
            "GROUP BY segment"
        )
        for segment, offset, record_bytes in rows:
            self._log.check(Place(segment=segment, offset=offset), record_bytes)
        written, segment, offset = self._database.execute(
            "SELECT written, segment, next_offset FROM outbox"
        ).fetchone()
        if not self._log.has(segment):
            return
        self.next_place = Place(segment=segment, offset=offset)
        for found in self._log.follow(self.next_place, written + 1):
            self._count_one()
            self._index(found.sequence, found.record_bytes, found.digest, found.place)
            self.next_place = found.place.after(found.record_bytes)

    def turn_over(self) -> Place:
        """Return the begin of a segment that holds nothing any more, or of a new one.

        In a transaction that is synced: on disk must be where to look for records that are not in
        the index yet and, before they are written over, that the segment's earlier ones were acked.

        Raises:
            OSError: the disk has no room for a segment.
        """
        rows = self._database.execute("SELECT DISTINCT segment FROM waiting")
        in_use = {self.next_place.segment, *(segment for (segment,) in rows)}
        segment = 0
        while segment in in_use:
            segment += 1
        self._log.prepare(segment)
        self._database.execute("UPDATE outbox SET segment = ?, next_offset = 0", (segment,))
        return Place(segment=segment, offset=0)

    def add(self, digest: bytes, record: bytes) -> int:
        """Write a record to ``next_place``; return its sequence once it is on disk.

        Raises:
            OSError: it cannot be written.
        """
        sequence = self._count_one()
        self._index(sequence, len(record), digest, self.next_place)
        self._log.append(self.next_place, sequence, digest, record)
        return sequence

    def get(self, sequence: int) -> bytes:
        """Return a record that waits."""
        record, record_bytes, segment, offset = self._database.execute(
            "SELECT record, bytes, segment, offset FROM waiting WHERE sequence = ?", (sequence,)
        ).fetchone()
        if segment is None:
            return bytes(record)
        return self._log.read(Place(segment=segment, offset=offset), record_bytes)

    def sizes(self, sequences: Iterable[int]) -> list[int]:
        """Return the bytes of those of these records that wait."""
        query = "SELECT bytes FROM waiting WHERE sequence = ?"
        rows = [self._database.execute(query, (each,)).fetchone() for each in sequences]
        return [row[0] for row in rows if row is not None]

    def delete(self, sequences: Iterable[int]) -> tuple[int, int]:
        """Forget records; return the bytes and the number of those that were there."""
        freed_bytes = count = 0
        for sequence in sequences:
            row = self._database.execute(
                "DELETE FROM waiting WHERE sequence = ? RETURNING bytes", (sequence,)
            ).fetchone()
            if row is not None:
                freed_bytes += row[0]
                count += 1
        return freed_bytes, count

    def _count_one(self) -> int:
        (sequence,) = self._database.execute(
            "UPDATE outbox SET written = written + 1 RETURNING written"
        ).fetchone()
        return int(sequence)

    def _index(self, sequence: int, record_bytes: int, digest: bytes, place: Place) -> None:
        self._database.execute(
            "INSERT INTO waiting VALUES (?, ?, ?, x'', ?, ?)",
            (sequence, record_bytes, digest, place.segment, place.offset),
        )
        next_offset = place.after(record_bytes).offset
        self._database.execute("UPDATE outbox SET next_offset = ?", (next_offset,))
