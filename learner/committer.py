"""The committer: a thread that admits and stores records in groups, and says what to ack.

A group is whatever arrived while the one before was being written, so that the disk is synced as
seldom as the load allows and yet a lone record does not wait.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from learner.admission import Refused, admit
from learner.episode_store import EpisodeStore
from learner.fleet_state import FleetState
from learner.stored_episode import Arrival, Burial
from protocol.errors import StoreError, StoreFullError
from protocol.messages import Ack, EpisodeSubmission, Refusal, Tombstone

logger = logging.getLogger(__name__)

MAX_GROUP = 512
MAX_GROUP_BYTES = 32 * 2**20
_MAX_ACKED = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """Where an answer goes, and who is there."""

    routing_id: bytes
    robot_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A submission with its record, or a tombstone, as it came from a robot."""

    sender: Sender
    message: EpisodeSubmission | Tombstone
    record: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the gateway shall send."""

    sender: Sender
    message: Ack | Refusal


class Committer:
    """The one thread that writes to the store."""

    def __init__(
        self, store: EpisodeStore, fleet: FleetState, on_answers: Callable[[], None]
    ) -> None:
        """Args: ``on_answers`` is called on the committer's thread when there are answers."""
        self._store = store
        self._fleet = fleet
        self._on_answers = on_answers
        self._queue: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._answers: deque[Answer] = deque()
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Store what was submitted, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    @property
    def queued_bytes(self) -> int:
        """Bytes of records that wait or are being written."""
        return self._queued_bytes

    def submit(self, delivery: Delivery) -> None:
        """Hand a delivery over."""
        with self._lock:
            self._queued_bytes += len(delivery.record)
        self._queue.put(delivery)

    def take_answers(self) -> list[Answer]:
        """Return the answers that are ready."""
        taken = []
        while self._answers:
            taken.append(self._answers.popleft())
        return taken

    def _run(self) -> None:
        running = True
        while running:
            group, running = self._next_group()
            try:
                self._answers.extend(self._process(group))
            except Exception:
                # Without an ack the robots keep these records and send them again.
                logger.exception("a group of %d deliveries could not be stored", len(group))
            with self._lock:
                self._queued_bytes -= sum(len(delivery.record) for delivery in group)
            self._on_answers()

    def _next_group(self) -> tuple[list[Delivery], bool]:
        """Return what waits, and False when the thread shall end after it."""
        group: list[Delivery] = []
        group_bytes = 0
        while not group or not self._queue.empty():
            delivery = self._queue.get()
            if delivery is None:
                return group, False
            group.append(delivery)
            group_bytes += len(delivery.record)
            if len(group) >= MAX_GROUP or group_bytes >= MAX_GROUP_BYTES:
                break
        return group, True

    def _process(self, group: list[Delivery]) -> list[Answer]:
        answers: list[Answer] = []
        accepted: list[tuple[Delivery, Arrival | Burial]] = []
        for delivery in group:
            outcome = _admit(delivery)
            if isinstance(outcome, Refused):
                answers.append(self._refusal(delivery, outcome))
            else:
                accepted.append((delivery, outcome))
        try:
            if accepted:
                self._store.commit([item for _, item in accepted])
        except (StoreFullError, StoreError) as error:
            logger.error("%d deliveries are not acked: %s", len(accepted), error)  # noqa: TRY400
            return answers + self._try_later({d.sender for d, _ in accepted}, error)
        return answers + _acks([delivery for delivery, _ in accepted])

    def _refusal(self, delivery: Delivery, refused: Refused) -> Answer:
        self._fleet.refuse(delivery.sender.robot_id, refused.code)
        logger.warning("episode of %s refused: %s", delivery.sender.robot_id, refused.reason)
        message = Refusal(
            code=refused.code,
            reason=refused.reason[:512],
            spool_id=delivery.message.spool_id,
            sequence=delivery.message.sequence,
        )
        return Answer(sender=delivery.sender, message=message)

    def _try_later(self, senders: set[Sender], error: Exception) -> list[Answer]:
        code = "store-full" if isinstance(error, StoreFullError) else "store-unavailable"
        for sender in senders:
            self._fleet.refuse(sender.robot_id, code)
        message = Refusal(code=code, reason=str(error)[:512])
        return [Answer(sender=sender, message=message) for sender in senders]


def _admit(delivery: Delivery) -> Arrival | Burial | Refused:
    message, robot_id = delivery.message, delivery.sender.robot_id
    if isinstance(message, EpisodeSubmission):
        return admit(message, delivery.record, robot_id)
    return Burial(
        robot_id=robot_id,
        spool_id=message.spool_id,
        sequence=message.sequence,
        last_sequence=message.last_sequence,
        reason=message.reason,
    )


def _acks(stored: list[Delivery]) -> list[Answer]:
    """One ack per sender and spool, split where a message would become too long."""
    sequences: defaultdict[tuple[Sender, bytes], list[int]] = defaultdict(list)
    for delivery in stored:
        message = delivery.message
        last = message.last_sequence if isinstance(message, Tombstone) else message.sequence
        covered = range(message.sequence, last + 1)
        sequences[delivery.sender, message.spool_id].extend(covered)
    return [
        Answer(sender=sender, message=Ack(spool_id=spool_id, sequences=done[at : at + _MAX_ACKED]))
        for (sender, spool_id), done in sequences.items()
        for at in range(0, len(done), _MAX_ACKED)
    ]
