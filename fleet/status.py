"""Asks the gateway how the fleet is, as an operator."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from fleet.operator_client import OperatorClient
from fleet.proportion import Proportion
from fleet.releases import assigned_version, is_pinned
from protocol.errors import TransientError
from protocol.messages import FromGateway, ReleaseList, RobotStatus, StatusReply, StatusRequest
from protocol.security import CurveKeys


class StatusClient:
    """Asks a gateway under the operator's key: any of them knows the whole fleet."""

    def __init__(self, endpoints: Sequence[str], keys: CurveKeys, server_public: bytes) -> None:
        """Connect to every gateway of a fleet."""
        self._gateways = deque(
            OperatorClient(endpoint, keys, server_public, FromGateway) for endpoint in endpoints
        )

    def fetch(self, timeout_s: float | None = None) -> StatusReply:
        """Return the fleet's status as it is now, from the first gateway that answers.

        The one that answered last is asked first. Each of them has ``timeout_s``.

        Raises:
            TransientError: no gateway answered in time.
            AuthenticationError: the gateway refused the operator's key.
            RejectedMessageError: what came is not a status reply.
        """
        silence: TransientError | None = None
        for _ in range(len(self._gateways)):
            try:
                return self._gateways[0].ask(StatusRequest(), StatusReply, timeout_s)
            except TransientError as error:
                silence = error
                self._gateways.rotate(-1)
        assert silence is not None
        raise silence

    def close(self) -> None:
        """Disconnect."""
        for gateway in self._gateways:
            gateway.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def in_full(
    status: StatusReply, listing: ReleaseList | None, members: Collection[str]
) -> dict[str, Any]:
    """Return a status for scripts: with what each robot shall use, and whether it may speak.

    Args:
        status: of the gateway.
        listing: of the release server; None when it does not answer.
        members: who may speak.
    """
    told: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(status))
    told["release_warnings"] = listing.warnings if listing else []
    for robot in told["robots"]:
        name = robot["robot_id"]
        robot["enrolled"] = name in members
        robot["assigned_release"] = assigned_version(listing, name) if listing else None
        robot["pinned"] = is_pinned(listing, name) if listing else None
    return told


def rolling_greedy(robot: RobotStatus, window: int = 100) -> Proportion:
    """Return the success of the robot's last greedy attempts, as far as the gateway knows them."""
    greedy = [letter for letter in robot.recent if letter in "SF"][-window:]
    return Proportion.of(letter == "S" for letter in greedy)


def rolling_success(robot: RobotStatus, window: int = 100) -> Proportion:
    """Return the success of the robot's last attempts of every mode."""
    finished = [letter for letter in robot.recent if letter in "SFsf"][-window:]
    return Proportion.of(letter in "Ss" for letter in finished)
