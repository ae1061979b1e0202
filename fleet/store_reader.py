"""Reads a run's episode store from outside the learner, also while it writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.attempts import Attempt
from fleet.episode_counts import RobotCounts
from learner.store.episode_store import EpisodeStore
from learner.store.ledger import RobotLedger
from learner.store.sequence_set import SequenceSet
from learner.store.stored_episode import RecordKey, StoredEpisode
from protocol.codec import decode_episode, read_episode_summary
from protocol.episode import Episode
from protocol.errors import StoreError
from robot_agent.delivery.outbox import OutboxCounts

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


def find_episode(stores: Sequence[EpisodeStore], episode_id: str) -> tuple[Episode, str]:
    """Return the episode whose id begins like this, and the robot that delivered it.

    Raises:
        StoreError: none or more than one does, or it was retired a moment ago.
    """
    # By id: of a robot that moved, two stores may have a copy each.
    found = {
        one.episode_id: (store, one.number)
        for store in stores
        for one in stored_attempts(store)
        if one.episode_id.startswith(episode_id)
    }
    if len(found) != 1:
        hint = "; give more of it" if found else ""
        raise StoreError(f"{len(found)} episodes have an id that begins with {episode_id!r}{hint}")
    ((store, number),) = found.values()
    stored = _numbered(store, number)
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


Known = dict[bytes, SequenceSet]
"""Spool -> sequences."""


def count_episodes(
    stores: Sequence[EpisodeStore],
    records: list[StoredAttempt],
    outboxes: dict[str, OutboxCounts],
    damaged: Ranges | None = None,
) -> dict[str, RobotCounts]:
    """Compare what the robots' outboxes say with what a reader found in the stores of a fleet.

    Args:
        stores: asked only for what no record tells: retired, tombstones, conflicts, duplicates.
        records: everything that the reader found, in all of them.
        outboxes: by robot; robots without one here (elsewhere, or gone) count from the stores.
        damaged: what a verification found not to be what was stored.
    """
    by_robot: dict[str, list[StoredAttempt]] = defaultdict(list)
    for record in records:
        by_robot[record.attempt.robot_id].append(record)
    retired = _by_robot(key for store in stores for key in store.retired_keys())
    tombstoned = _by_robot(key for store in stores for key in store.tombstoned_keys())
    names = {*by_robot, *outboxes, *(name for store in stores for name in store.robots())}
    return {
        name: _count(
            [store.ledger(name) for store in stores],
            _Sequences(
                records=by_robot[name],
                damaged=(damaged or {}).get(name, {}),
                retired=retired.get(name, {}),
                tombstoned=tombstoned.get(name, {}),
                gaps=sum(len(gap) for gaps in missing(stores, name).values() for gap in gaps),
            ),
            outboxes.get(name),
        )
        for name in sorted(names)
    }


def missing(stores: Sequence[EpisodeStore], name: str) -> dict[bytes, list[range]]:
    """Return, per spool, the sequences of a robot that no store has, nor was told were given up."""
    known: defaultdict[bytes, SequenceSet] = defaultdict(SequenceSet)
    for store in stores:
        gaps = store.missing(name)
        for spool_id, ledger in store.spools(name).items():
            every = SequenceSet([range(1, ledger.highest + 1)])
            known[spool_id] |= every - SequenceSet(gaps.get(spool_id, []))
    found = {
        spool_id: (SequenceSet([range(1, spool.highest + 1)]) - spool).runs()
        for spool_id, spool in known.items()
    }
    return {spool_id: gaps for spool_id, gaps in found.items() if gaps}


class _Sequences:
    """What became of one robot's sequences, whatever store they are in."""

    def __init__(
        self,
        *,
        records: list[StoredAttempt],
        damaged: dict[str, list[range]],
        retired: Known,
        tombstoned: Known,
        gaps: int,
    ) -> None:
        self.records = records
        self.gaps = gaps
        self.damaged = sum(len(gap) for gaps in damaged.values() for gap in gaps)
        there: defaultdict[bytes, SequenceSet] = defaultdict(SequenceSet)
        for record in records:
            there[record.spool_id].add(record.sequence)
        for spool_hex, found in damaged.items():
            there[bytes.fromhex(spool_hex)] |= SequenceSet(found)
        # Of a record that two stores had, one may have been removed: it is still there.
        self.retired = _count_without(retired, there)
        for spool_id, spool in retired.items():
            there[spool_id] |= spool
        self.tombstoned = _count_without(tombstoned, there)
        self.known = there
        """Stored at some time, retired and damaged ones among them."""

    @property
    def doubled(self) -> int:
        """Records that hold an episode which another record holds too."""
        return len(self.records) - len({record.episode_id for record in self.records})

    @property
    def contested(self) -> int:
        """Records of other episodes under a key that another store has given to a first one."""
        episodes = {(one.spool_id, one.sequence, one.episode_id) for one in self.records}
        return len(episodes) - len({(one.spool_id, one.sequence) for one in self.records})


def _count(
    ledgers: list[RobotLedger], found: _Sequences, outbox: OutboxCounts | None
) -> RobotCounts:
    known = {spool_id: spool.count for spool_id, spool in found.known.items()}
    if outbox is None:
        written = sent = sum(known.values()) + found.gaps + found.tombstoned
        waiting = lost = 0
    else:
        # Other spools of this robot are those of earlier lives of its disk.
        own = known.get(outbox.spool_id, 0)
        earlier = sum(known.values()) - own
        sent = outbox.acked + earlier
        written, waiting = outbox.written + earlier, outbox.waiting
        # Beyond what the robot gave up, an export has buried what its store had lost.
        buried = max(0, found.tombstoned - outbox.dropped - outbox.refused)
        lost = max(0, outbox.acked - own - buried)
    return RobotCounts(
        written=written,
        sent=sent,
        waiting=waiting,
        stored=len(found.records),
        missing=max(lost, found.gaps),
        duplicated=found.doubled,
        tombstoned=found.tombstoned,
        conflicts=sum(ledger.conflicts for ledger in ledgers) + found.contested,
        retired=found.retired,
        refused_duplicates=sum(ledger.duplicates for ledger in ledgers),
        damaged=found.damaged,
    )


def _by_robot(keys: Iterable[RecordKey]) -> dict[str, Known]:
    found: dict[str, Known] = {}
    for key in keys:
        spool = found.setdefault(key.robot_id, {}).setdefault(key.spool_id, SequenceSet())
        spool.add(key.sequence)
    return found


def _count_without(spools: Known, others: Known) -> int:
    return sum(
        (spool - others.get(spool_id, SequenceSet())).count for spool_id, spool in spools.items()
    )


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
