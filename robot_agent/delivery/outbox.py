"""The outbox: finished episodes on the robot's disk until the learner has them on its own.

Records go to a log (see record_log), synced one by one; one SQLite file says where each of them is
and what became of every sequence. It is synced where that cannot be found out from the log, and
before the log writes over what was acked. A sequence is given once and never again, whatever is
killed.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

from protocol.codec import digest as digest_of
from protocol.errors import OutboxError, OutboxFullError
from protocol.limits import MAX_TOMBSTONE_RANGE
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox_file import (
    FILE_NAME,
    OutboxCounts,
    claim,
    open_outbox_file,
    outbox_counts,
    outbox_error,
    read_counts,
)
from robot_agent.delivery.spooled_records import SpooledRecords

__all__ = ["Outbox", "OutboxCounts", "SpooledEpisode", "TombstoneRange", "outbox_counts"]

logger = logging.getLogger(__name__)

REFUSED_SHARE = 0.25
"""Of the size limit: what refused records may take. Above it the oldest of them go, so that records
that nobody has looked at never stop a robot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpooledEpisode:
    """One record that waits for its ack."""

    sequence: int
    digest: bytes
    record: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class TombstoneRange:
    """Consecutive sequences that will never be sent, for one reason."""

    sequence: int
    last_sequence: int
    reason: str


class Outbox:
    """The spool of one robot. Any thread may call any method."""

    def __init__(self, folder: Path, config: OutboxConfig) -> None:
        """Open the outbox of ``folder``, or begin one.

        Raises:
            ConfigurationError: the folder cannot be written, another agent has it open, or the
                file is damaged or of another version.
            OutboxFullError: the disk is full.
            OutboxError: the disk fails.
        """
        self._config = config
        self._path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._largest_bytes = 0
        self._opened_s = time.monotonic()
        self._put_at_s: deque[tuple[int, float]] = deque()
        """Sequences that this process put, oldest first, with when."""
        self._undeleted: set[int] = set()
        """Acked, and still in the file, because the disk did not take that they go."""
        self._owner = claim(folder)
        self._database = open_outbox_file(self._path)
        self._records = SpooledRecords(self._database, folder)
        with self._transaction():
            self._records.recover()
        counts = read_counts(self._database)
        self.spool_id = counts.spool_id
        self._waiting_bytes = counts.waiting_bytes
        """In the file, with what is acked and still there."""
        with self._transaction():
            freed_bytes = self._forget_refused(counts.refused_bytes)
        self._counts = counts.plus(refused_bytes=-freed_bytes)

    def check_room(self) -> None:
        """Check that another record may be kept, if it is no larger than the largest so far.

        Raises:
            OutboxFullError: it would exceed the size limit, and the policy is to stop.
        """
        if self._config.when_full == "stop":
            with self._lock:
                self._excess_bytes(max(1, self._largest_bytes))

    def put(self, record: bytes, *, beyond_limit: bool = False) -> int:
        """Keep a record; return its sequence once it is safely on disk.

        Args:
            record: what is to be delivered.
            beyond_limit: keep it even where the size limit says no.

        Raises:
            OutboxFullError: the size limit is reached and the policy is to stop, or the disk is
                full. Nothing was written; the same call may succeed later.
            OutboxError: the disk fails.
        """
        digest = digest_of(record)
        with self._lock:
            self._largest_bytes = max(self._largest_bytes, len(record))
            if self._undeleted:
                self._delete_acked()
            excess_bytes = 0 if beyond_limit else self._excess_bytes(len(record))
            if not self._records.next_place.has_room(len(record)):
                self._turn_over()
            # What is dropped is told to the learner at once: it must not come back.
            with self._transaction(synchronous="FULL" if excess_bytes else "NORMAL"):
                dropped, freed_bytes = self._drop_oldest(excess_bytes) if excess_bytes else (0, 0)
                sequence = self._records.add(digest, record)
            self._records.next_place = self._records.next_place.after(len(record))
            self._waiting_bytes += len(record) - freed_bytes
            self._counts = self._counts.plus(
                written=1, dropped=dropped, waiting_bytes=len(record) - freed_bytes
            )
            self._put_at_s.append((sequence, time.monotonic()))
            if excess_bytes:
                self._oldest()
        return sequence

    def unsent(self, after: int, limit_bytes: int) -> list[SpooledEpisode]:
        """Return the records that follow sequence ``after``, oldest first.

        At least one if there is any, else as many as fit into ``limit_bytes``.
        """
        chosen: list[SpooledEpisode] = []
        total_bytes = 0
        with self._lock:
            rows = self._database.execute(
                "SELECT sequence, bytes, digest FROM waiting WHERE sequence > ? ORDER BY sequence",
                (after,),
            )
            for sequence, size_bytes, digest in rows:
                if sequence in self._undeleted:
                    continue
                total_bytes += size_bytes
                if chosen and total_bytes > limit_bytes:
                    break
                record = self._records.get(sequence)
                chosen.append(SpooledEpisode(sequence=sequence, digest=digest, record=record))
            rows.close()
        return chosen

    def forget(self, sequences: Iterable[int]) -> None:
        """Delete what the learner has on disk: acked records, and tombstones it has noted.

        On disk some records later, and on a full disk when it has room again. After a loss of power
        the last of them may wait here again, and all of them on a disk that fails; they are sent
        again then, and the learner recognises them.
        """
        with self._lock:
            was_full = bool(self._undeleted)
            new = set(sequences) - self._undeleted
            sizes = self._records.sizes(new)
            self._counts = self._counts.plus(acked=len(sizes), waiting_bytes=-sum(sizes))
            self._undeleted |= new
            trouble = self._delete_acked()
            if trouble is not None and not was_full:
                logger.warning(
                    "%s. What the learner has is remembered, and deleted when there is room",
                    trouble,
                )

    def set_aside(self, sequence: int, code: str, reason: str) -> None:
        """Keep a record that the learner will never accept, for a person to look at.

        When such records take more than REFUSED_SHARE of the size limit, the oldest go.
        """
        with self._lock:
            if sequence in self._undeleted:
                return
            with self._transaction():
                row = self._database.execute(
                    "SELECT bytes, digest FROM waiting WHERE sequence = ?", (sequence,)
                ).fetchone()
                if row is None:
                    return
                self._database.execute(
                    "INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (sequence, *row, self._records.get(sequence), code, reason, time.time_ns()),
                )
                self._records.delete([sequence])
                self._database.execute("UPDATE outbox SET refused = refused + 1")
                self._bury([sequence], f"refused: {reason}"[:512])
                freed_bytes = self._forget_refused(self._counts.refused_bytes + row[0])
            self._waiting_bytes -= row[0]
            self._counts = self._counts.plus(
                refused=1, waiting_bytes=-row[0], refused_bytes=row[0] - freed_bytes
            )

    def tombstones(
        self, *, after: int = 0, limit: int = MAX_TOMBSTONE_RANGE
    ) -> list[TombstoneRange]:
        """Return what must still be told to the learner about sequences that will never come.

        Args:
            after: only of sequences above this one.
            limit: how many sequences at most, 1 to MAX_TOMBSTONE_RANGE.
        """
        with self._lock:
            rows = self._database.execute(
                "SELECT sequence, reason FROM tombstones WHERE sequence > ? ORDER BY sequence",
                (after,),
            )
            open_rows = (row for row in rows if row[0] not in self._undeleted)
            found = list(islice(open_rows, min(limit, MAX_TOMBSTONE_RANGE)))
            rows.close()
        return list(_ranges(found))

    def counts(self) -> OutboxCounts:
        """Return what became of every sequence, over all restarts."""
        return self._counts

    def oldest_s(self) -> float:
        """Return how long the oldest waiting record has waited; 0 when none does.

        Of one from before this outbox was opened: since then, for no wall clock is asked.
        """
        with self._lock:
            oldest = self._oldest()
            if oldest is None:
                return 0.0
            known = self._put_at_s[0] if self._put_at_s else (0, self._opened_s)
            since_s = known[1] if known[0] == oldest else self._opened_s
        return time.monotonic() - since_s

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            self._database.close()
            self._owner.close()

    def _oldest(self) -> int | None:
        """Return the oldest sequence that waits; forget when those before it were put."""
        rows = self._database.execute("SELECT sequence FROM waiting ORDER BY sequence")
        oldest = next((each for (each,) in rows if each not in self._undeleted), None)
        rows.close()
        while self._put_at_s and (oldest is None or self._put_at_s[0][0] < oldest):
            self._put_at_s.popleft()
        return oldest

    def _delete_acked(self) -> OutboxError | OutboxFullError | None:
        """Delete what was acked; return why the disk does not take that, if it does not."""
        doomed = list(self._undeleted)
        try:
            with self._transaction(synchronous="NORMAL"):
                freed_bytes, count = self._records.delete(doomed)
                self._database.executemany(
                    "DELETE FROM tombstones WHERE sequence = ?", [(each,) for each in doomed]
                )
                self._database.execute("UPDATE outbox SET acked = acked + ?", (count,))
        except (OutboxError, OutboxFullError) as error:
            return error
        self._undeleted.clear()
        self._waiting_bytes -= freed_bytes
        return None

    def _turn_over(self) -> None:
        with self._transaction():
            place = self._records.turn_over()
        self._records.next_place = place

    def _excess_bytes(self, needed_bytes: int) -> int:
        """Return by how much so many bytes more exceed the limit.

        Raises:
            OutboxFullError: they do, and the policy is to stop.
        """
        refused_bytes = self._counts.refused_bytes
        kept_bytes = self._waiting_bytes + refused_bytes
        excess_bytes = kept_bytes + needed_bytes - self._config.max_bytes
        if excess_bytes <= 0:
            return 0
        if self._config.when_full == "stop":
            refused = f", {refused_bytes} are of refused ones" if refused_bytes else ""
            remedy = "waiting for the learner to take some"
            raise OutboxFullError(
                f"outbox {self._path}: {self._waiting_bytes} bytes wait{refused} and "
                f"{needed_bytes} more exceed {self._config.max_bytes}; "
                f"{remedy if self._waiting_bytes else 'raise outbox.max_bytes'}"
            )
        return excess_bytes

    def _drop_oldest(self, excess_bytes: int) -> tuple[int, int]:
        """Drop the oldest records; return how many, and how many bytes that frees."""
        freed_bytes = 0
        doomed: list[int] = []
        rows = self._database.execute("SELECT sequence, bytes FROM waiting ORDER BY sequence")
        for sequence, size_bytes in rows:
            if freed_bytes >= excess_bytes:
                break
            if sequence not in self._undeleted:
                doomed.append(sequence)
                freed_bytes += size_bytes
        rows.close()
        if freed_bytes < excess_bytes:
            raise OutboxFullError(
                f"outbox {self._path}: one episode and what was refused exceed "
                f"{self._config.max_bytes} bytes; raise outbox.max_bytes"
            )
        self._records.delete(doomed)
        self._database.execute("UPDATE outbox SET dropped = dropped + ?", (len(doomed),))
        self._bury(doomed, "dropped: the robot's outbox was full")
        logger.warning(
            "outbox full: dropped the oldest %d episodes, %d bytes, up to sequence %d",
            len(doomed),
            freed_bytes,
            doomed[-1],
        )
        return len(doomed), freed_bytes

    def _forget_refused(self, kept_bytes: int) -> int:
        """Delete the oldest refused records while they take too much; return the bytes freed."""
        limit_bytes = int(self._config.max_bytes * REFUSED_SHARE)
        freed_bytes = count = 0
        while kept_bytes - freed_bytes > limit_bytes:
            row = self._database.execute(
                "DELETE FROM refused WHERE sequence = (SELECT min(sequence) FROM refused) "
                "RETURNING bytes"
            ).fetchone()
            freed_bytes += row[0]
            count += 1
        if count:
            logger.warning(
                "outbox %s: refused records exceed %d bytes: the oldest %d are no longer kept",
                *(self._path, limit_bytes, count),
            )
        return freed_bytes

    def _bury(self, sequences: list[int], reason: str) -> None:
        self._database.executemany(
            "INSERT OR REPLACE INTO tombstones VALUES (?, ?)",
            [(sequence, reason) for sequence in sequences],
        )

    @contextmanager
    def _transaction(self, *, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> Iterator[None]:
        """All or nothing; on disk when it ends if FULL, with the next one that is if NORMAL."""
        try:
            self._database.execute(f"PRAGMA synchronous = {synchronous}")
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except (sqlite3.OperationalError, OSError) as error:
            self._roll_back()
            raise outbox_error(self._path, error) from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors.
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")


def _ranges(rows: list[tuple[int, str]]) -> Iterator[TombstoneRange]:
    """Join neighbours with the same reason."""
    # Neighbours lie equally far from their places in the list.
    for (_, reason), run in groupby(enumerate(rows), lambda at: (at[1][0] - at[0], at[1][1])):
        sequences = [sequence for _, (sequence, _) in run]
        yield TombstoneRange(sequence=sequences[0], last_sequence=sequences[-1], reason=reason)
