"""The committer: a thread that stores what was admitted in groups, and says what to ack.

A group is what the gateway received in one turn: whatever arrived while the group before was being
written. So the disk is synced as seldom as the load allows, and yet a lone record does not wait.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

import msgspec

from learner.monitoring.attempt_counts import AttemptCounts
from learner.monitoring.attempt_facts import AttemptFacts
from learner.monitoring.drift_watch import DriftWatch
from learner.monitoring.fleet_state import FleetState
from learner.monitoring.traffic import Traffic
from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Arrival, Burial, RecordKey, Verdict
from learner.store.transaction import CONFLICTS_KEPT, SPOOLS_KEPT
from protocol.errors import StoreError, StoreFullError
from protocol.limits import MAX_TOMBSTONES, MAX_TOMBSTONES_SHARE
from protocol.messages import Ack, Refusal
from protocol.refusal_code import RefusalCode
from protocol.refusal_log import RefusalLog

logger = logging.getLogger(__name__)

MAX_GROUP_BYTES = 32 * 2**20
RETENTION_IDLE_S = 30.0
"""How often a committer without work looks for what has grown too old."""
_RETENTION_PAUSE_S = 60.0
"""How long retention rests after it failed."""
_MAX_ACKED = 4096
_ENTRY_BYTES = 128
"""What an entry of the store takes beside a record or a reason."""


# Not dataclasses: one of these is made for every message, and a Struct in a fifth of the time.
class Sender(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where an answer goes, and who is there."""

    routing_id: bytes
    robot_id: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a robot delivered, and was admitted."""

    sender: Sender
    item: Arrival | Burial
    facts: AttemptFacts | None = None
    """Of an arrival: what is counted once it is stored."""

    @property
    def written_bytes(self) -> int:
        """What the store writes of it, roughly."""
        item = self.item
        if isinstance(item, Arrival):
            return _ENTRY_BYTES + len(item.record)
        sequences = item.last_sequence - item.sequence + 1
        return sequences * (_ENTRY_BYTES + len(item.reason))


class _Group(msgspec.Struct, kw_only=True, gc=False):
    """What is stored in one transaction."""

    deliveries: list[Delivery]
    written_bytes: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the gateway shall send."""

    sender: Sender
    message: Ack | Refusal


class Committer:
    """The one thread that writes to the store."""

    def __init__(
        self,
        store: EpisodeStore,
        fleet: FleetState,
        refusals: RefusalLog,
        on_answers: Callable[[], None],
        attempts: AttemptCounts | None = None,
        drift: DriftWatch | None = None,
    ) -> None:
        """Begin with nothing to do; nothing is written before ``start``.

        Args:
            store: where records go.
            fleet: counts refusals.
            refusals: where they are logged.
            on_answers: called on the committer's thread when there are answers.
            attempts: counts what was stored.
            drift: watches robots by what was stored.
        """
        self._store = store
        self._fleet = fleet
        self._refusals = refusals
        self._on_answers = on_answers
        self._attempts = attempts or AttemptCounts()
        self._drift = drift or DriftWatch()
        self.traffic = Traffic()
        """What went through."""
        self._retention_due_s = self._resting_until_s = 0.0
        self._next = _Group(deliveries=[])
        self._groups: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._written: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._under_way = 0
        self._is_writing = False
        self._answers: deque[Answer] = deque()
        self._submitted_bytes = 0
        self._done_bytes = 0
        """Each of the two is written by one thread alone, so that neither needs a lock."""
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Store what was submitted, then end the thread."""
        self._hand_over()
        self._groups.put(None)
        self._thread.join()

    @property
    def queued_bytes(self) -> int:
        """Bytes of records that wait or are being written."""
        return self._submitted_bytes - self._done_bytes

    def submit(self, delivery: Delivery) -> None:
        """Put a delivery into the next group. Belongs to one thread, with ``commit_submitted``."""
        group = self._next
        written_bytes = delivery.written_bytes
        group.deliveries.append(delivery)
        group.written_bytes += written_bytes
        self._submitted_bytes += written_bytes
        if delivery.facts is not None:
            self.traffic.note_received(delivery.facts.record_bytes)
        if group.written_bytes >= MAX_GROUP_BYTES:
            self._hand_over()

    def commit_submitted(self, patience_s: float = 0.0) -> None:
        """Have what was submitted stored; wait up to ``patience_s`` until the disk has it to sync.

        Whoever goes on while a group is written fights with the committer's thread for the
        interpreter, which the binding of LMDB lets go of at every call: a record cost a tenth more
        CPU. So one receives while the disk syncs, and waits with the next group until it has.
        """
        self._hand_over()
        end_s = time.monotonic() + patience_s
        while self._under_way:
            try:
                self._written.get(timeout=max(0.0, end_s - time.monotonic()))
            except queue.Empty:
                return
            self._under_way -= 1

    def take_answers(self) -> list[Answer]:
        """Return the answers that are ready."""
        taken = []
        while self._answers:
            taken.append(self._answers.popleft())
        return taken

    def _hand_over(self) -> None:
        if self._next.deliveries:
            self._groups.put(self._next)
            self._next = _Group(deliveries=[])
            self._under_way += 1

    def _run(self) -> None:
        running = True
        while running:
            running = self._take_next()
            # After the answers, so that no ack waits for it; a piece at a time, so that no
            # record waits for long.
            self._retire_some()

    def _take_next(self) -> bool:
        """Store the next group, if one comes before it is time to retire; False after the last."""
        try:
            group = self._groups.get(timeout=max(0.0, self._retention_due_s - time.monotonic()))
        except queue.Empty:
            return True
        if group is not None:
            self._take(group)
        return group is not None

    def _take(self, group: _Group) -> None:
        deliveries = group.deliveries
        self._is_writing = True
        try:
            self._answers.extend(self._commit(deliveries))
        except Exception:
            # Without an ack the robots keep these records and send them again.
            logger.exception("a group of %d deliveries could not be stored", len(deliveries))
        self._done_bytes += group.written_bytes
        self._on_answers()
        self._note_written()

    def _note_written(self) -> None:
        """Say once of each group that what is left of it is the disk's work, or nothing."""
        if self._is_writing:
            self._is_writing = False
            self._written.put(None)

    def _retire_some(self) -> None:
        if time.monotonic() < self._resting_until_s:
            return
        try:
            pause_s = 0.0 if self._store.retire_some() else RETENTION_IDLE_S
        except Exception:
            # Too much is kept, for now; receiving goes on.
            logger.exception("nothing could be retired; next try in %.0f s", _RETENTION_PAUSE_S)
            self._resting_until_s = time.monotonic() + _RETENTION_PAUSE_S
            pause_s = _RETENTION_PAUSE_S
        self._retention_due_s = time.monotonic() + pause_s

    def _commit(self, group: list[Delivery]) -> list[Answer]:
        began_s = time.monotonic()
        try:
            verdicts = self._store.commit([delivery.item for delivery in group], self._note_written)
        except (StoreFullError, StoreError) as error:
            robots = {delivery.sender.robot_id for delivery in group}
            if isinstance(error, StoreError) and len(robots) > 1:
                # A damaged page of one robot's ledger must not stop the others.
                self._refusals.note(
                    logging.ERROR, "the store", "takes robots one by one", str(error)
                )
                return [
                    answer
                    for name in sorted(robots)
                    for answer in self._commit(
                        [one for one in group if one.sender.robot_id == name]
                    )
                ]
            return self._try_later({delivery.sender for delivery in group}, error)
        self._count(group, verdicts, time.monotonic() - began_s)
        refused: list[Answer] = []
        taken: list[Delivery] = []
        for delivery, verdict in zip(group, verdicts, strict=True):
            if verdict.is_refused:
                refused.append(self._refusal(delivery, verdict))
            else:
                taken.append(delivery)
        return refused + _acks(taken)

    def _count(self, group: list[Delivery], verdicts: list[Verdict], duration_s: float) -> None:
        judged = [
            (one, verdict)
            for one, verdict in zip(group, verdicts, strict=True)
            if one.facts is not None
        ]
        acked = sum(not verdict.is_refused for _, verdict in judged)
        self.traffic.note_commit(duration_s, acked)
        # What came again was counted the first time.
        stored = [
            (one.sender.robot_id, one.facts)
            for one, verdict in judged
            if verdict is Verdict.STORED and one.facts is not None
        ]
        self._attempts.add(stored)
        self._drift.note(stored)

    def _refusal(self, delivery: Delivery, verdict: Verdict) -> Answer:
        if verdict is Verdict.TOO_MANY_SPOOLS:
            return self._refuse_spool(delivery.sender)
        if isinstance(delivery.item, Burial):
            return self._refuse_tombstones(delivery.sender, verdict)
        # Only a record can be a conflict.
        assert isinstance(delivery.item, Arrival)
        return self._refuse_conflict(delivery.sender, delivery.item.key)

    def _refuse_spool(self, sender: Sender) -> Answer:
        """Refuse what would begin a spool too many. Not by sequence: the robot keeps it."""
        reason = (
            f"{sender.robot_id} has begun {SPOOLS_KEPT} outboxes, and the store keeps no more of "
            "one robot: find out why its outbox is made anew so often, enrol it under a new name"
        )
        self._fleet.refuse(sender.robot_id, RefusalCode.SPOOLS)
        self._refusals.warn(sender.robot_id, RefusalCode.SPOOLS, reason)
        return Answer(sender=sender, message=Refusal(code=RefusalCode.SPOOLS, reason=reason))

    def _refuse_tombstones(self, sender: Sender, verdict: Verdict) -> Answer:
        """Refuse what would be given up beyond what is kept. The robot goes on with the rest."""
        reason = (
            f"{sender.robot_id} has given up as many as the {MAX_TOMBSTONES} episodes that the "
            "store notes of one robot: give its outbox a larger disk, enrol it under a new name"
            if verdict is Verdict.TOO_MANY_TOMBSTONES
            else "what robots have given up takes up as much of the store as it may, "
            f"{MAX_TOMBSTONES_SHARE:.1%} of its size limit: raise gateway.max_store_bytes, and "
            "find the robots that give up so much"
        )
        self._fleet.refuse(sender.robot_id, RefusalCode.TOMBSTONE)
        self._refusals.warn(sender.robot_id, RefusalCode.TOMBSTONE, reason)
        return Answer(sender=sender, message=Refusal(code=RefusalCode.TOMBSTONE, reason=reason))

    def _refuse_conflict(self, sender: Sender, key: RecordKey) -> Answer:
        """Refuse a conflict beyond those that are kept."""
        reason = (
            f"sequence {key.sequence}: the store holds another episode under it, and "
            f"{CONFLICTS_KEPT} such conflicts of this robot are kept already: was its disk copied "
            "to another robot, or restored from a backup?"
        )
        self._fleet.refuse(key.robot_id, RefusalCode.CONFLICTS)
        self._refusals.warn(key.robot_id, RefusalCode.CONFLICTS, reason)
        message = Refusal(
            code=RefusalCode.CONFLICTS,
            reason=reason,
            spool_id=key.spool_id,
            sequence=key.sequence,
        )
        return Answer(sender=sender, message=message)

    def _try_later(self, senders: set[Sender], error: Exception) -> list[Answer]:
        code = (
            RefusalCode.STORE_FULL
            if isinstance(error, StoreFullError)
            else RefusalCode.STORE_UNAVAILABLE
        )
        for sender in senders:
            self._fleet.refuse(sender.robot_id, code)
            self._refusals.warn(sender.robot_id, code, str(error))
        message = Refusal(code=code, reason=str(error)[:512])
        return [Answer(sender=sender, message=message) for sender in senders]


def _acks(stored: list[Delivery]) -> list[Answer]:
    """One ack per sender and spool, split where a message would become too long."""
    sequences: defaultdict[tuple[Sender, bytes], list[int]] = defaultdict(list)
    for delivery in stored:
        item = delivery.item
        if isinstance(item, Arrival):
            sequences[delivery.sender, item.key.spool_id].append(item.key.sequence)
        else:
            covered = range(item.sequence, item.last_sequence + 1)
            sequences[delivery.sender, item.spool_id].extend(covered)
    return [
        Answer(sender=sender, message=Ack(spool_id=spool_id, sequences=done[at : at + _MAX_ACKED]))
        for (sender, spool_id), done in sequences.items()
        for at in range(0, len(done), _MAX_ACKED)
    ]
