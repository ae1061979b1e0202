"""Takes operators' orders to stop robots, and sees to it that each robot gets its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from learner.ingestion.sessions import Sessions
from learner.ingestion.stop_orders import StopOrders
from protocol.messages import Stop, StopConfirmation, StopReply, StopRequest, StopState
from protocol.registry import Member, Registry

STOPS_SINCE = 5
"""The wire version from which on robots know of stops."""


class StopDesk:
    """Belongs to the gateway's thread."""

    def __init__(self, orders: StopOrders, registry: Registry, sessions: Sessions) -> None:
        self._orders = orders
        self._registry = registry
        self._sessions = sessions

    def take(self, operator: Member, request: StopRequest) -> list[str] | str:
        """Take an order; return whom it stops, or why it is refused. ``keep`` writes it."""
        robots = {member.name for member in self._registry.members() if member.role == "robot"}
        if request.robot_id and request.robot_id not in robots:
            known = ", ".join(sorted(robots)) or "none"
            return f"{request.robot_id!r} is not an enrolled robot; enrolled: {known}"
        addressed = sorted({request.robot_id} if request.robot_id else robots)
        self._orders.add(addressed, request.order_id, operator.name)
        return addressed

    def keep(self, robot_ids: Sequence[str], order_id: bytes) -> StopReply:
        """Have the disk know an order; return how far it has come with each robot."""
        self._orders.keep()
        return StopReply(robots=[self._state(name, order_id) for name in robot_ids])

    def stops_to_send(self, robot_ids: Sequence[str]) -> list[tuple[bytes, Stop]]:
        """Return what these robots shall be told at once, each with its routing id."""
        live = self._sessions.live()
        told = ((live[name], name) for name in robot_ids if name in live)
        return [
            (session.routing_id, stop)
            for session, name in told
            if (stop := self.stop_for(name, session.wire_version)) is not None
        ]

    def stop_for(self, robot_id: str, wire_version: int) -> Stop | None:
        """Return the order that a robot is to be told of, if there is one that it understands."""
        order = self._orders.of(robot_id)
        if order is None or wire_version < STOPS_SINCE:
            return None
        return Stop(order_id=order.order_id, by=order.by)

    def confirm(self, robot_id: str, message: StopConfirmation) -> None:
        """Note what a robot has done about an order."""
        self._orders.confirm(robot_id, message.order_id, resumed=message.resumed)

    def _state(self, robot_id: str, order_id: bytes) -> StopState:
        state = self._orders.state_of(robot_id, order_id)
        session = self._sessions.live().get(robot_id)
        if state.confirmed_at_ns or state.trouble:
            trouble = state.trouble
        elif session is None:
            trouble = "it is not connected here, and stops when it connects"
            if unkept := self._orders.disk_trouble:
                trouble += f", but not if the learner is started anew before: {unkept}"
        elif session.wire_version < STOPS_SINCE:
            trouble = (
                f"its agent speaks wire version {session.wire_version}, stops are known since "
                f"{STOPS_SINCE}: stop it where it stands, and update the agent"
            )
        else:
            trouble = ""
        return msgspec.structs.replace(state, trouble=trouble)
