"""Asks the gateway how the fleet is, as an operator."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from fleet.operator_client import OperatorClient
from fleet.proportion import Proportion
from fleet.releases import assigned_version, is_pinned
from protocol.messages import FromGateway, ReleaseList, RobotStatus, StatusReply, StatusRequest
from protocol.security import CurveKeys


class StatusClient(OperatorClient):
    """A connection to the gateway under the operator's key."""

    def __init__(self, endpoint: str, keys: CurveKeys, server_public: bytes) -> None:
        super().__init__(endpoint, keys, server_public, FromGateway)

    def fetch(self, timeout_s: float | None = None) -> StatusReply:
        """Return the fleet's status as it is now.

        Raises:
            TransientError: the gateway did not answer in time.
            AuthenticationError: the gateway refused the operator's key.
            RejectedMessageError: what came is not a status reply.
        """
        return self.ask(StatusRequest(), StatusReply, timeout_s)


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
