"""Stops robots, as an operator, through every gateway of the fleet at once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fleet.operator_client import OperatorClient
from protocol.errors import TransientError
from protocol.messages import FromGateway, StopReply, StopRequest, StopState
from protocol.security import CurveKeys

CONFIRMED_WITHIN_S = 5.0
"""How long the robots' own word is waited for."""
_ASK_EVERY_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class StopOutcome:
    """How far an order has come."""

    robots: list[StopState]
    """By name."""
    silent_gateways: list[str]
    """Endpoints that did not take the order."""

    @property
    def is_done(self) -> bool:
        """All robots hold still, by their own word."""
        return all(robot.confirmed_at_ns for robot in self.robots)


class StopOrder:
    """One order, known to the gateways by a number of its own: giving it again asks how it went."""

    def __init__(
        self,
        endpoints: Sequence[str],
        keys: CurveKeys,
        server_public: bytes,
        *,
        robot_id: str,
    ) -> None:
        """Prepare; nobody is stopped yet.

        Args:
            endpoints: of all gateways: none is waited for before the others are told.
            keys: the operator's.
            server_public: the learner's CURVE public key.
            robot_id: whom to stop; "" for the whole fleet.
        """
        self._endpoints = endpoints
        self._keys = keys
        self._server_public = server_public
        self._request = StopRequest(order_id=os.urandom(16), robot_id=robot_id)

    def give(self, within_s: float = CONFIRMED_WITHIN_S) -> StopOutcome:
        """Stop the robots; return once all have confirmed, or what is known ``within_s`` later.

        Raises:
            TransientError: no gateway answers.
            AuthenticationError: the operator's key is refused.
            RejectedMessageError: there is no such robot.
        """
        deadline_s = time.monotonic() + within_s
        with ThreadPoolExecutor(len(self._endpoints)) as threads:
            asked = threads.map(lambda one: self._give_to(one, deadline_s), self._endpoints)
            replies = dict(zip(self._endpoints, asked, strict=True))
        heard = [reply for reply in replies.values() if reply is not None]
        if not heard:
            raise TransientError(
                f"none of the gateways {', '.join(self._endpoints)} answers: nobody was stopped; "
                "go to the robots"
            )
        return StopOutcome(
            robots=_together(heard),
            silent_gateways=[one for one, reply in replies.items() if reply is None],
        )

    def _give_to(self, endpoint: str, deadline_s: float) -> StopReply | None:
        """Give one gateway the order until its robots have confirmed; None if it is silent."""
        reply: StopReply | None = None
        with OperatorClient(endpoint, self._keys, self._server_public, FromGateway) as gateway:
            while (left_s := deadline_s - time.monotonic()) > 0:
                try:
                    reply = gateway.ask(self._request, StopReply, left_s)
                except TransientError:
                    break
                if all(robot.confirmed_at_ns or robot.trouble for robot in reply.robots):
                    break
                time.sleep(_ASK_EVERY_S)
        return reply


def _together(replies: Sequence[StopReply]) -> list[StopState]:
    """Return the best that any gateway knows of each robot: it is connected to one of them."""
    best: dict[str, StopState] = {}
    for state in (one for reply in replies for one in reply.robots):
        known = best.get(state.robot_id)
        if known is None or _certainty(state) > _certainty(known):
            best[state.robot_id] = state
    return [best[name] for name in sorted(best)]


def _certainty(state: StopState) -> tuple[bool, bool]:
    return bool(state.confirmed_at_ns), not state.trouble
