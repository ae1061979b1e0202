"""Stops robots, as an operator, through every gateway of the fleet at once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fleet.operator_client import OperatorClient
from protocol.errors import GraspFleetError, TransientError
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
    untold_gateways: dict[str, str]
    """Why a gateway did not take the order, by its endpoint."""

    @property
    def is_done(self) -> bool:
        """There are robots, and all of them hold still, by their own word."""
        return bool(self.robots) and all(robot.confirmed_at_ns for robot in self.robots)


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
            AuthenticationError: every gateway refuses the operator's key.
            RejectedMessageError: every gateway refuses the order: there is no such robot.
            TransientError: no gateway took it for any other reason, such as not being there.
        """
        deadline_s = time.monotonic() + within_s
        with ThreadPoolExecutor(len(self._endpoints)) as threads:
            asked = threads.map(lambda one: self._give_to(one, deadline_s), self._endpoints)
            answers = dict(zip(self._endpoints, asked, strict=True))
        heard = [answer for answer in answers.values() if isinstance(answer, StopReply)]
        untold = {
            endpoint: answer
            for endpoint, answer in answers.items()
            if isinstance(answer, GraspFleetError)
        }
        if not heard:
            raise _nobody_was_stopped(untold)
        return StopOutcome(
            robots=_together(heard),
            untold_gateways={endpoint: str(error) for endpoint, error in untold.items()},
        )

    def _give_to(self, endpoint: str, deadline_s: float) -> StopReply | GraspFleetError:
        """Give one gateway the order until its robots have confirmed, or say why it took none.

        What one gateway answers must not keep anybody from hearing of the others.
        """
        reply: StopReply | None = None
        try:
            with OperatorClient(endpoint, self._keys, self._server_public, FromGateway) as gateway:
                while True:
                    left_s = max(0.0, deadline_s - time.monotonic())
                    reply = gateway.ask(self._request, StopReply, left_s)
                    if all(robot.confirmed_at_ns or robot.trouble for robot in reply.robots):
                        return reply
                    time.sleep(_ASK_EVERY_S)
        except GraspFleetError as error:
            # One that has answered before has the order.
            return reply or error


def _nobody_was_stopped(untold: Mapping[str, GraspFleetError]) -> GraspFleetError:
    """Return what to raise: the gateways' own refusal if that is what all of them say."""
    errors = list(untold.values())
    if not any(isinstance(error, TransientError) for error in errors):
        return errors[0]
    reasons = "; ".join(f"{endpoint}: {error}" for endpoint, error in untold.items())
    return TransientError(f"nobody was stopped; go to the robots: no gateway took it: {reasons}")


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
