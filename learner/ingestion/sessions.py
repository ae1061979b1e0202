"""Which connection is each robot's, and whether a second agent wants to speak under its key."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.messages import WIRE_VERSION, Hello

IN_USE_S = 3.0
"""A connection heard within this time is in use; an agent sends a heartbeat every second."""


@dataclass(kw_only=True, slots=True)
class Session:
    """One robot's connection, from its hello on."""

    routing_id: bytes
    process_id: bytes
    """Of the agent; empty for one of wire version 1."""
    address: str
    wire_version: int
    """What both sides speak."""
    heard_s: float
    gateways: list[str] = field(default_factory=list)
    """What the robot was told of the fleet's gateways when it was welcomed."""


class Sessions:
    """At most one session per robot, so never more than are enrolled. Belongs to one thread.

    Two agents with one key differ in their process id. One of wire version 1 has none: two of them
    cannot be told apart, and take the session from each other with every hello; nothing is lost by
    that, since whatever is not acked is sent again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        """Return how many robots have said hello."""
        return len(self._sessions)

    def rival(self, robot_id: str, hello: Hello) -> Session | None:
        """Return the session of another agent that is in use under the same key, if any."""
        session = self._sessions.get(robot_id)
        if session is None or session.process_id == hello.process_id:
            return None
        return session if self._clock() - session.heard_s <= IN_USE_S else None

    def open(self, robot_id: str, routing_id: bytes, hello: Hello, address: str) -> Session:
        """Begin a session; it takes the place of an earlier one."""
        session = Session(
            routing_id=routing_id,
            process_id=hello.process_id,
            address=address,
            wire_version=min(hello.wire_version, WIRE_VERSION),
            heard_s=self._clock(),
        )
        self._sessions[robot_id] = session
        return session

    def live(self) -> dict[str, Session]:
        """Return the sessions that were heard just now, by robot. Any thread may ask."""
        now_s = self._clock()
        # Copied in one step, which no other thread can come into.
        sessions = self._sessions.copy()
        return {name: one for name, one in sessions.items() if now_s - one.heard_s <= IN_USE_S}

    def hear(self, robot_id: str, routing_id: bytes) -> Session | None:
        """Return the session that a message belongs to, heard now; None if there is none."""
        session = self._sessions.get(robot_id)
        if session is None or session.routing_id != routing_id:
            return None
        session.heard_s = self._clock()
        return session
