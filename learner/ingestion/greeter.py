"""Who may deliver at this gateway: what a robot's hello is answered."""

from __future__ import annotations

import logging
from collections.abc import Callable

from learner.ingestion.envelope import Envelope
from learner.ingestion.neighbours import Neighbours
from learner.ingestion.placement import Placement
from learner.ingestion.sessions import Sessions
from learner.ingestion.stop_desk import StopDesk
from learner.monitoring.fleet_state import FleetState
from learner.store.episode_store import EpisodeStore
from protocol.errors import StoreError
from protocol.messages import (
    OLDEST_WIRE_VERSION,
    WIRE_VERSION,
    FromGateway,
    Hello,
    Refusal,
    Welcome,
)
from protocol.refusal_code import RefusalCode
from protocol.refusal_log import RefusalLog
from protocol.registry import Member

_LOGGED_VERSION_CHARS = 64


class Greeter:
    """Opens sessions. Belongs to the gateway's thread."""

    def __init__(
        self,
        *,
        store: EpisodeStore,
        fleet: FleetState,
        sessions: Sessions,
        neighbours: Neighbours,
        placement: Placement,
        stops: StopDesk,
        refusals: RefusalLog,
        window_bytes: int,
        is_connected: Callable[[bytes], bool],
        send: Callable[[bytes, FromGateway], None],
        refuse: Callable[[Member, RefusalCode, str], Refusal],
    ) -> None:
        """Prepare to greet.

        Args:
            store: what has been delivered.
            fleet: is told who is there.
            sessions: every robot's connection to this gateway.
            neighbours: say whether a robot's key is in use elsewhere.
            placement: says whether another gateway should have a robot.
            stops: which robots shall stand still.
            refusals: where it is logged who comes.
            window_bytes: what each robot may have under way.
            is_connected: says whether a routing id still has a connection.
            send: sends a message that answers nothing to a routing id.
            refuse: counts and logs a refusal.
        """
        self._store = store
        self._fleet = fleet
        self._sessions = sessions
        self._neighbours = neighbours
        self._placement = placement
        self._stops = stops
        self._refusals = refusals
        self._window_bytes = window_bytes
        self._is_connected = is_connected
        self._send = send
        self._refuse = refuse

    def greet(self, member: Member, envelope: Envelope, hello: Hello) -> FromGateway:
        """Welcome a robot, send it to another gateway, or say why it may not deliver."""
        reason = self._reason_to_refuse(member, hello, envelope)
        if reason is not None:
            return self._refuse(member, *reason)
        stop = self._stops.stop_for(member.name, hello.wire_version)
        if stop is not None:
            # Before the welcome: a robot that is welcome begins to move.
            self._send(envelope.routing_id, stop)
        try:
            elsewhere = self._placement.of_newcomer(member.name, hello)
            return elsewhere or self._welcome(member, envelope, hello)
        except StoreError as error:
            return self._refuse(member, RefusalCode.STORE_UNAVAILABLE, str(error))

    def _welcome(self, member: Member, envelope: Envelope, hello: Hello) -> Welcome:
        session = self._sessions.open(member.name, envelope.routing_id, hello, envelope.address)
        self._fleet.greeted(
            member.name,
            wire_version=session.wire_version,
            software_version=hello.software_version,
            address=session.address,
        )
        known_through = self._store.known_through(member.name, hello.spool_id)
        self._note_greeting(member.name, session.address, hello, known_through)
        session.gateways = self._placement.gateways(session.wire_version)
        return Welcome(
            wire_version=session.wire_version,
            robot_id=member.name,
            window_bytes=self._window_bytes,
            known_through=known_through,
            gateways=session.gateways,
        )

    def _note_greeting(self, name: str, address: str, hello: Hello, known_through: int) -> None:
        # A robot may greet as often as it likes.
        if known_through >= hello.next_sequence:
            self._refusals.note(
                logging.ERROR,
                name,
                "forgot what it sent",
                f"it says its next sequence is {hello.next_sequence}, but {known_through} are "
                f"stored of spool {hello.spool_id.hex()[:8]}: was its disk restored from a backup "
                "or copied from another robot?",
            )
        self._refusals.note(
            logging.INFO,
            name,
            "connected",
            f"from {address}, version {hello.software_version[:_LOGGED_VERSION_CHARS]}, "
            f"wire version {hello.wire_version}",
        )

    def _reason_to_refuse(
        self, member: Member, hello: Hello, envelope: Envelope
    ) -> tuple[RefusalCode, str] | None:
        """Return code and reason why a robot may not deliver; None when it may."""
        spoken = hello.wire_version
        if not OLDEST_WIRE_VERSION <= spoken <= WIRE_VERSION:
            older = "the learner" if spoken > WIRE_VERSION else f"the agent on {member.name}"
            return RefusalCode.WIRE_VERSION, (
                f"{member.name} speaks wire version {spoken}, this learner "
                f"{OLDEST_WIRE_VERSION} to {WIRE_VERSION}: update {older}"
            )
        if hello.claimed_name != member.name:
            return RefusalCode.NAME, (
                f"this key is enrolled as {member.name}, but the robot calls itself "
                f"{hello.claimed_name}: correct 'name' in its robot.toml or enrol it anew"
            )
        rival = self._rival(member, hello)
        if rival is not None:
            return RefusalCode.TWO_AGENTS, (
                f"{member.name} is connected already, from {rival}; another agent at "
                f"{envelope.address} uses the same key: stop one of the two, or enrol one under a "
                "name of its own (a copied disk carries the key of the robot it was copied from)"
            )
        return None

    def _rival(self, member: Member, hello: Hello) -> str | None:
        """Return where another agent is connected from under the same key, if one is."""
        rival = self._sessions.rival(member.name, hello)
        if rival is not None and self._is_connected(rival.routing_id):
            return rival.address
        if not hello.process_id:
            return None
        return self._neighbours.rival(member.name, hello.process_id)
