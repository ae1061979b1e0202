"""What the gateway makes of each message: answer it, hand it to the committer, or refuse it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from learner.committer import Committer, Delivery, Sender
from learner.episode_store import EpisodeStore
from learner.fleet_state import FleetState
from protocol.codec import decode_message
from protocol.errors import RejectedMessageError
from protocol.messages import (
    WIRE_VERSION,
    EpisodeSubmission,
    FromGateway,
    Heartbeat,
    Hello,
    Refusal,
    StatusReply,
    StatusRequest,
    ToGateway,
    Tombstone,
    Welcome,
)
from protocol.registry import Member, Registry

logger = logging.getLogger(__name__)

MAX_TOMBSTONE_RANGE = 4096
_FORGET_SESSION_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """One message as it came in."""

    routing_id: bytes
    """Where an answer goes; says nothing about who is there."""
    public_key: str
    """The key (Z85) that authenticated the message."""
    header: bytes
    bodies: list[bytes]


class Reception:
    """Knows who said hello. Belongs to the gateway's thread."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: EpisodeStore,
        committer: Committer,
        fleet: FleetState,
        window_bytes: int,
        status: Callable[[], StatusReply],
    ) -> None:
        self._registry = registry
        self._store = store
        self._committer = committer
        self._fleet = fleet
        self._window_bytes = window_bytes
        self._status = status
        self._sessions: dict[bytes, tuple[str, float]] = {}
        """Routing id -> robot that said hello there, and when it was last heard."""

    def answer(self, envelope: Envelope) -> FromGateway | None:
        """Deal with one message; return what to send back at once, if anything."""
        member = self._registry.member_for_key(envelope.public_key)
        if member is None:
            reason = self._registry.refusal_reason(envelope.public_key)
            return self._refuse(None, "not-enrolled", reason)
        try:
            message: ToGateway = decode_message(envelope.header, ToGateway)
        except RejectedMessageError as error:
            return self._refuse(member, "malformed", str(error))
        if len(envelope.bodies) != isinstance(message, EpisodeSubmission):
            return self._refuse(
                member, "malformed", f"{type(message).__name__} with {len(envelope.bodies)} bodies"
            )
        if isinstance(message, StatusRequest):
            return self._answer_operator(member)
        if member.role != "robot":
            return self._refuse(member, "not-a-robot", f"the key of {member.name} is no robot's")
        return self._answer_robot(member, envelope, message)

    def forget_silent(self) -> None:
        """Forget connections that have long been silent; their robots will say hello again."""
        oldest_s = time.monotonic() - _FORGET_SESSION_S
        self._sessions = {
            routing_id: session
            for routing_id, session in self._sessions.items()
            if session[1] >= oldest_s
        }

    def _answer_operator(self, member: Member) -> FromGateway:
        if member.role != "operator":
            return self._refuse(member, "not-an-operator", "only an operator's key may ask this")
        return self._status()

    def _answer_robot(
        self,
        member: Member,
        envelope: Envelope,
        message: Hello | EpisodeSubmission | Tombstone | Heartbeat,
    ) -> FromGateway | None:
        if isinstance(message, Hello):
            return self._greet(member, envelope.routing_id, message)
        session = self._sessions.get(envelope.routing_id)
        if session is None or session[0] != member.name:
            # Not counted as refused: the robot does nothing wrong when the learner was restarted.
            return Refusal(code="say-hello", reason="this gateway does not know the connection yet")
        self._sessions[envelope.routing_id] = (member.name, time.monotonic())
        if isinstance(message, Heartbeat):
            self._fleet.beat(member.name, message)
            return None
        self._fleet.seen(member.name)
        if isinstance(message, Tombstone) and not _is_sane(message):
            return self._refuse(
                member, "tombstone", f"sequences {message.sequence} to {message.last_sequence}"
            )
        self._committer.submit(
            Delivery(
                sender=Sender(routing_id=envelope.routing_id, robot_id=member.name),
                message=message,
                record=envelope.bodies[0] if envelope.bodies else b"",
            )
        )
        return None

    def _greet(self, member: Member, routing_id: bytes, hello: Hello) -> FromGateway:
        if hello.wire_version != WIRE_VERSION:
            return self._refuse(
                member,
                "wire-version",
                f"{member.name} speaks wire version {hello.wire_version}, this learner "
                f"{WIRE_VERSION}: update the older of the two",
            )
        if hello.claimed_name != member.name:
            return self._refuse(
                member,
                "name",
                f"this key is enrolled as {member.name}, but the robot calls itself "
                f"{hello.claimed_name}: correct 'name' in its robot.toml or enrol it anew",
            )
        self._sessions[routing_id] = (member.name, time.monotonic())
        self._fleet.seen(member.name)
        known_through = self._store.known_through(member.name, hello.spool_id)
        if known_through >= hello.next_sequence:
            logger.error(
                "%s says its next sequence is %d, but %d are stored of spool %s: was its disk "
                "restored from a backup or copied from another robot?",
                *(member.name, hello.next_sequence, known_through, hello.spool_id.hex()[:8]),
            )
        logger.info("%s connected, version %s", member.name, hello.software_version)
        return Welcome(
            wire_version=WIRE_VERSION,
            robot_id=member.name,
            window_bytes=self._window_bytes,
            known_through=known_through,
        )

    def _refuse(self, member: Member | None, code: str, reason: str) -> Refusal:
        name = member.name if member else None
        self._fleet.refuse(name if member and member.role == "robot" else None, code)
        logger.warning("message of %s refused: %s", name or "a stranger", reason)
        return Refusal(code=code, reason=reason[:512])


def _is_sane(tombstone: Tombstone) -> bool:
    return 0 <= tombstone.last_sequence - tombstone.sequence < MAX_TOMBSTONE_RANGE
