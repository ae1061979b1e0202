"""Reads a run's episode store from outside the learner, also while it writes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.attempts import Attempt
from fleet.episode_counts import RobotCounts
from learner.store.episode_store import EpisodeStore
from learner.store.ledger import SpoolLedger
from learner.store.stored_episode import StoredEpisode
from protocol.codec import decode_episode, read_episode_summary
from protocol.episode import Episode
from protocol.errors import StoreError
from robot_agent.outbox import OutboxCounts

_BATCH = 256
_MAP_BYTES = 2**40
"""A reader maps whatever is there; this is address space, not memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAttempt:
    """One record of the store, without its pictures."""

    number: int
    """Of its commit; later ones are higher."""
    spool_id: bytes
    sequence: int
    episode_id: str
    record_bytes: int
    attempt: Attempt


@contextmanager
def open_store(folder: Path) -> Iterator[EpisodeStore]:
    """Open a store for reading and close it at the end.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    store = EpisodeStore(folder, _MAP_BYTES, readonly=True)
    try:
        yield store
    finally:
        store.close()


def stored_attempts(store: EpisodeStore) -> Iterator[StoredAttempt]:
    """Yield every sound record in the order in which it was committed."""
    after = 0
    while batch := store.tail(after, _BATCH):
        for number, stored in batch:
            yield _stored_attempt(number, stored)
        after = batch[-1][0]


def newest_attempts(store: EpisodeStore) -> Iterator[StoredAttempt]:
    """Yield every sound record, the newest first."""
    through, first = store.last_commit(), store.first_commit()
    while through >= max(1, first):
        after = max(0, through - _BATCH)
        for number, stored in reversed(store.tail(after, _BATCH)):
            if number <= through:
                yield _stored_attempt(number, stored)
        through = after


def find_episode(store: EpisodeStore, episode_id: str) -> tuple[Episode, str]:
    """Return the episode whose id begins like this, and the robot that delivered it.

    Raises:
        StoreError: none or more than one does, or it was retired a moment ago.
    """
    found = [one.number for one in stored_attempts(store) if one.episode_id.startswith(episode_id)]
    if len(found) != 1:
        raise StoreError(f"{len(found)} episodes have an id that begins with {episode_id!r}")
    stored = _numbered(store, found[0])
    return decode_episode(stored.record), stored.key.robot_id


def episode_numbered(store: EpisodeStore, number: int) -> Episode:
    """Return the episode of a commit number.

    Raises:
        StoreError: it was retired, or never was.
    """
    return decode_episode(_numbered(store, number).record)


def _numbered(store: EpisodeStore, number: int) -> StoredEpisode:
    stored = store.numbered(number)
    if stored is None:
        raise StoreError(f"the store does not hold commit {number}; it may have been retired")
    return stored


Ranges = dict[str, dict[str, list[range]]]
"""Robot -> spool, hexadecimal -> sequences."""


def count_episodes(
    store: EpisodeStore,
    records: list[StoredAttempt],
    outboxes: dict[str, OutboxCounts],
    damaged: Ranges | None = None,
) -> dict[str, RobotCounts]:
    """Compare what the robots' outboxes say with what a reader found in the store.

    Args:
        store: asked only for what no record tells: retired, tombstones, conflicts, duplicates.
        records: everything that the reader found.
        outboxes: by robot; robots without one here (elsewhere, or gone) count from the store.
        damaged: what a verification found not to be what was stored.
    """
    by_robot: dict[str, list[StoredAttempt]] = defaultdict(list)
    for record in records:
        by_robot[record.attempt.robot_id].append(record)
    return {
        name: _count(store, name, by_robot[name], outboxes.get(name), (damaged or {}).get(name, {}))
        for name in sorted({*by_robot, *outboxes, *store.robots()})
    }


def _count(
    store: EpisodeStore,
    name: str,
    records: list[StoredAttempt],
    outbox: OutboxCounts | None,
    damaged: dict[str, list[range]],
) -> RobotCounts:
    ledger = store.ledger(name)
    known = _known_per_spool(store, name, records, damaged)
    gaps = sum(len(gap) for gaps in store.missing(name).values() for gap in gaps)
    if outbox is None:
        written = sent = known.total() + gaps + ledger.tombstoned
        waiting = missing = 0
    else:
        # Other spools of this robot are those of earlier lives of its disk.
        earlier = known.total() - known[outbox.spool_id]
        sent = outbox.acked + earlier
        written, waiting = outbox.written + earlier, outbox.waiting
        missing = max(0, outbox.acked - known[outbox.spool_id] - _lost(store, name, outbox))
    return RobotCounts(
        written=written,
        sent=sent,
        waiting=waiting,
        stored=len(records),
        missing=max(missing, gaps),
        duplicated=len(records) - len({record.episode_id for record in records}),
        tombstoned=ledger.tombstoned,
        conflicts=ledger.conflicts,
        retired=ledger.retired,
        refused_duplicates=ledger.duplicates,
        damaged=sum(len(gap) for gaps in damaged.values() for gap in gaps),
    )


def _known_per_spool(
    store: EpisodeStore,
    name: str,
    records: list[StoredAttempt],
    damaged: dict[str, list[range]],
) -> Counter[bytes]:
    """Return how many sequences of each spool are stored, retired or known to be damaged."""
    known = Counter(record.spool_id for record in records)
    for spool_id, spool in store.spools(name).items():
        known[spool_id] += spool.retired
    for spool_hex, gaps in damaged.items():
        known[bytes.fromhex(spool_hex)] += sum(len(gap) for gap in gaps)
    return known


def _lost(store: EpisodeStore, name: str, outbox: OutboxCounts) -> int:
    """Return how many acked episodes an export buried because the store had lost them."""
    spool = store.spools(name).get(outbox.spool_id, SpoolLedger())
    return max(0, spool.tombstoned - outbox.dropped - outbox.refused)


def _stored_attempt(number: int, stored: StoredEpisode) -> StoredAttempt:
    summary = read_episode_summary(stored.record)
    outcome = summary.outcome
    reference = outcome.reference
    return StoredAttempt(
        number=number,
        spool_id=stored.key.spool_id,
        sequence=stored.key.sequence,
        episode_id=summary.episode_id,
        record_bytes=len(stored.record),
        attempt=Attempt(
            robot_id=stored.key.robot_id,
            finished_at_ns=summary.finished_at_ns,
            mode=summary.mode,
            label=outcome.label,
            release_version=summary.policy.release_version,
            moves=summary.step_count,
            reference_success=None if reference is None else reference.success,
            object_kind="" if reference is None else reference.object_kind,
            tests_disagree=outcome.tests_disagree,
            decision_ms=summary.decision_ms,
        ),
    )
