"""What the gateway makes of each message: answer it, hand it to the committer, or refuse it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from learner.ingestion.admission import ImageSize, Refused, admit
from learner.ingestion.committer import Committer, Delivery, Sender
from learner.ingestion.envelope import Envelope
from learner.ingestion.greeter import Greeter
from learner.ingestion.neighbours import Neighbours
from learner.ingestion.placement import Placement
from learner.ingestion.sessions import Session, Sessions
from learner.ingestion.stop_desk import StopDesk
from learner.ingestion.stop_orders import StopOrders
from learner.monitoring.attempt_facts import AttemptFacts
from learner.monitoring.fleet_state import FleetState
from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Arrival, Burial
from protocol.codec import decode_message
from protocol.errors import ConfigurationError, RejectedMessageError
from protocol.limits import MAX_TOMBSTONE_RANGE, MESSAGES_PER_S
from protocol.message_rate import MessageRate
from protocol.messages import (
    EpisodeSubmission,
    FromGateway,
    Heartbeat,
    Hello,
    Refusal,
    StatusReply,
    StatusRequest,
    StopConfirmation,
    StopRequest,
    ToGateway,
    Tombstone,
    Welcome,
)
from protocol.refusal_code import RefusalCode
from protocol.refusal_log import STRANGER, RefusalLog
from protocol.registry import Member, Registry
from protocol.server_key import ServerKey

_SAY_HELLO = Refusal(
    code=RefusalCode.SAY_HELLO, reason="this gateway does not know the connection yet"
)
_SAY_HELLO_AGAIN = Refusal(
    code=RefusalCode.SAY_HELLO, reason="the fleet has other gateways than you were told of"
)


class Reception:
    """Deals with one message after the other. Belongs to the gateway's thread."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: EpisodeStore,
        committer: Committer,
        fleet: FleetState,
        window_bytes: int,
        key: ServerKey,
        refusals: RefusalLog,
        status: Callable[[], StatusReply],
        is_connected: Callable[[bytes], bool],
        send: Callable[[bytes, FromGateway], None],
        stops: StopOrders,
        sessions: Sessions,
        neighbours: Neighbours,
        own_endpoint: Callable[[], str],
        image_size_px: ImageSize | None = None,
    ) -> None:
        """Prepare to receive.

        Args:
            registry: who may speak.
            store: what has been delivered.
            committer: takes deliveries.
            fleet: takes heartbeats, and counts what is refused.
            window_bytes: what each robot may have under way.
            key: the learner's key, and the one that will follow it.
            refusals: where refusals are logged.
            status: what operators are told.
            is_connected: says whether a routing id still has a connection.
            send: sends a message that answers nothing to a routing id.
            stops: which robots shall stand still.
            sessions: every robot's connection to this gateway.
            neighbours: the fleet's other gateways.
            own_endpoint: where robots reach this one.
            image_size_px: height and width that pictures must have; None admits any.
        """
        self._registry = registry
        self._committer = committer
        self._fleet = fleet
        self._window_bytes = window_bytes
        self._key = key
        self._refusals = refusals
        self._status = status
        self._send = send
        self._image_size_px = image_size_px
        self._holders: dict[str, tuple[Member | None, str]] = {}
        """Who holds a key, or why nobody does; see ``look_up_anew``."""
        self._rate = MessageRate()
        self._sessions = sessions
        self._neighbours = neighbours
        self._waiting: dict[str, Envelope] = {}
        """By robot, greetings that are not answered yet; see ``due_greetings``."""
        self._stops = StopDesk(stops, registry, sessions)
        self._placement = Placement(neighbours, sessions, store, own_endpoint)
        self._greeter = Greeter(
            store=store,
            fleet=fleet,
            sessions=sessions,
            neighbours=neighbours,
            placement=self._placement,
            stops=self._stops,
            refusals=refusals,
            window_bytes=window_bytes,
            is_connected=is_connected,
            send=send,
            refuse=self._refuse,
        )

    def look_up_anew(self) -> None:
        """Forget who holds which key; to be called every few milliseconds."""
        self._holders.clear()

    def answer(self, envelope: Envelope) -> FromGateway | None:
        """Deal with one message; return what to send back at once, if anything."""
        key = envelope.public_key
        member, stranger = self._who(key)
        if not self._rate.admits(key):
            return self._refuse_haste(member, key)
        if member is None:
            answer: FromGateway | None = self._refuse(None, RefusalCode.NOT_ENROLLED, stranger)
        else:
            answer = self._answer(member, envelope)
        # A greeting costs as much as a refusal: a look into the store, a line of the log.
        if isinstance(answer, Welcome | Refusal) and answer != _SAY_HELLO:
            self._rate.charge_refusal(key)
        return answer

    def due_greetings(self) -> list[Envelope]:
        """Return greetings that came before the other gateways were heard, once they are.

        A robot that is welcome moves: orders to stop it that only they were given come first.
        """
        if self._neighbours.are_awaited:
            return []
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())

    @property
    def granted_bytes(self) -> int:
        """What robots may rightly have under way; also one that is not read now has its window."""
        return len(self._sessions) * self._window_bytes

    def tidy(self) -> None:
        """Forget what is no longer needed; to be called every few seconds."""
        self._rate.forget_quiet()

    def _who(self, key: str) -> tuple[Member | None, str]:
        """Return who holds ``key`` (Z85), or None and why nobody who may speak does."""
        found = self._holders.get(key)
        if found is None:
            found = self._holders[key] = self._look_up(key)
        return found

    def _look_up(self, key: str) -> tuple[Member | None, str]:
        try:
            member = self._registry.member_for_key(key)
            return member, "" if member else self._registry.refusal_reason(key)
        except ConfigurationError as error:
            return None, str(error)

    def _answer(self, member: Member, envelope: Envelope) -> FromGateway | None:
        try:
            message: ToGateway = decode_message(envelope.frame.bytes, ToGateway)
        except RejectedMessageError as error:
            return self._refuse(member, RefusalCode.MALFORMED, str(error))
        if len(envelope.bodies) != isinstance(message, EpisodeSubmission):
            bodies = "several" if len(envelope.bodies) > 1 else len(envelope.bodies)
            reason = f"{type(message).__name__} with {bodies} bodies"
            return self._refuse(member, RefusalCode.MALFORMED, reason)
        if isinstance(message, StatusRequest | StopRequest):
            return self._answer_operator(member, message)
        if member.role != "robot":
            return self._refuse(
                member, RefusalCode.NOT_A_ROBOT, f"the key of {member.name} is no robot's"
            )
        return self._answer_robot(member, envelope, message)

    def _answer_operator(self, member: Member, message: StatusRequest | StopRequest) -> FromGateway:
        if member.role != "operator":
            return self._refuse(
                member, RefusalCode.NOT_AN_OPERATOR, "only an operator's key may ask this"
            )
        if isinstance(message, StatusRequest):
            return self._status()
        robot_ids = self._stops.take(member, message)
        if isinstance(robot_ids, str):
            return self._refuse(member, RefusalCode.NO_SUCH_ROBOT, robot_ids)
        # Before the disk has the order: a robot must not go on because the disk is slow.
        for routing_id, stop in self._stops.stops_to_send(robot_ids):
            self._send(routing_id, stop)
        return self._stops.keep(robot_ids, message.order_id)

    def _answer_robot(
        self,
        member: Member,
        envelope: Envelope,
        message: Hello | EpisodeSubmission | Tombstone | Heartbeat | StopConfirmation,
    ) -> FromGateway | None:
        if isinstance(message, Hello):
            if self._neighbours.are_awaited:
                self._waiting[member.name] = envelope
                return None
            return self._greeter.greet(member, envelope, message)
        session = self._sessions.hear(member.name, envelope.routing_id)
        if session is None:
            # Not counted as refused: the robot does nothing wrong when the learner was restarted.
            return _SAY_HELLO
        if isinstance(message, Heartbeat):
            return self._take_heartbeat(member, session, message)
        self._fleet.seen(member.name)
        if isinstance(message, StopConfirmation):
            self._stops.confirm(member.name, message)
            return None
        if isinstance(message, Tombstone):
            return self._take_tombstone(member, envelope, message)
        return self._take_record(member, envelope, message)

    def _take_heartbeat(
        self, member: Member, session: Session, message: Heartbeat
    ) -> FromGateway | None:
        self._fleet.beat(member.name, message)
        stop = self._stops.stop_for(member.name, session.wire_version)
        if stop is not None:
            # Whatever else it is told, as the learner's next key: it may stand still for days.
            self._send(session.routing_id, stop)
        if session.gateways != self._placement.gateways(session.wire_version):
            # Its welcome came before this gateway had heard of all others. Were this one gone, the
            # robot would wait for it for ever.
            return _SAY_HELLO_AGAIN
        if elsewhere := self._placement.of_idle(member.name, session, message):
            return elsewhere
        must_be_told = self._key.note_confirmed(member.name, message.next_server_key)
        return self._key.notice if must_be_told and session.wire_version >= 2 else None

    def _take_record(
        self, member: Member, envelope: Envelope, message: EpisodeSubmission
    ) -> Refusal | None:
        admitted = admit(
            message, envelope.bodies[0], member.name, image_size_px=self._image_size_px
        )
        if not isinstance(admitted, Refused):
            self._submit(member, envelope, admitted.arrival, admitted.facts)
            return None
        refusal = self._refuse(member, admitted.code, admitted.reason)
        return msgspec.structs.replace(
            refusal, spool_id=message.spool_id, sequence=message.sequence
        )

    def _take_tombstone(
        self, member: Member, envelope: Envelope, message: Tombstone
    ) -> Refusal | None:
        sequences = message.last_sequence - message.sequence + 1
        if not 1 <= sequences <= MAX_TOMBSTONE_RANGE:
            return self._refuse(
                member,
                RefusalCode.TOMBSTONE,
                f"sequences {message.sequence} to {message.last_sequence}: a tombstone covers 1 to "
                f"{MAX_TOMBSTONE_RANGE} of them",
            )
        # The store writes it once for every sequence.
        self._rate.charge(envelope.public_key, sequences - 1)
        burial = Burial(
            robot_id=member.name,
            spool_id=message.spool_id,
            sequence=message.sequence,
            last_sequence=message.last_sequence,
            reason=message.reason,
        )
        self._submit(member, envelope, burial)
        return None

    def _submit(
        self,
        member: Member,
        envelope: Envelope,
        item: Arrival | Burial,
        facts: AttemptFacts | None = None,
    ) -> None:
        sender = Sender(routing_id=envelope.routing_id, robot_id=member.name)
        self._committer.submit(Delivery(sender=sender, item=item, facts=facts))

    def _refuse(self, member: Member | None, code: RefusalCode, reason: str) -> Refusal:
        is_robot = member is not None and member.role == "robot"
        name = member.name if member is not None else STRANGER
        self._fleet.refuse(name if is_robot else None, code, reason)
        self._refusals.warn(name, code, reason)
        return Refusal(code=code, reason=reason[:512])

    def _refuse_haste(self, member: Member | None, key: str) -> Refusal | None:
        """Drop a message of a peer that sends too many; tell it so, once."""
        if not self._rate.must_be_told(key):
            self._fleet.refuse(
                member.name if member and member.role == "robot" else None, RefusalCode.RATE
            )
            return None
        name = member.name if member is not None else STRANGER
        return self._refuse(
            member,
            RefusalCode.RATE,
            f"{name} sends more than {MESSAGES_PER_S} messages a second (a refused one counts as "
            "many); what is above that is dropped, and must be sent again",
        )
