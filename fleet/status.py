"""Asks the gateway how the fleet is, as an operator."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import msgspec
import zmq

from fleet.proportion import Proportion
from protocol.errors import AuthenticationError, RejectedMessageError, TransientError
from protocol.messages import FromGateway, Refusal, RobotStatus, StatusReply, StatusRequest
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits, connect, make_dealer

_LIMITS = SocketLimits(frame_bytes=16 * 2**20)


class StatusClient:
    """A connection to the gateway under the operator's key."""

    def __init__(self, endpoint: str, keys: CurveKeys, server_public: bytes) -> None:
        self._endpoint = endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = make_dealer(self._context, keys, server_public, _LIMITS)
        self._decoder = msgspec.msgpack.Decoder(FromGateway)
        self._request = msgspec.msgpack.encode(StatusRequest())
        connect(self._socket, endpoint)

    def fetch(self, timeout_s: float = 5.0) -> StatusReply:
        """Return the fleet's status as it is now.

        Raises:
            TransientError: the gateway did not answer in time.
            AuthenticationError: the gateway refused the operator's key.
            RejectedMessageError: what came is not a status reply.
        """
        deadline = time.monotonic() + timeout_s
        # Answers to requests that were given up on would otherwise be taken for this one.
        while self._socket.poll(0):
            self._socket.recv_multipart()
        self._send(deadline)
        remaining_ms = max(0, int(1000 * (deadline - time.monotonic())))
        if not self._socket.poll(remaining_ms):
            raise TransientError(self._silence(timeout_s))
        return self._read(self._socket.recv_multipart()[0])

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, deadline: float) -> None:
        started = time.monotonic()
        remaining_ms = max(0, int(1000 * (deadline - started)))
        if not self._socket.poll(remaining_ms, zmq.POLLOUT):
            raise TransientError(self._silence(deadline - started))
        self._socket.send(self._request)

    def _read(self, header: bytes) -> StatusReply:
        try:
            message = self._decoder.decode(header)
        except msgspec.DecodeError as error:
            raise RejectedMessageError(f"{self._endpoint}: not a status reply: {error}") from error
        if isinstance(message, Refusal):
            raise AuthenticationError(f"{self._endpoint} refused: {message.reason}")
        if not isinstance(message, StatusReply):
            kind = type(message).__name__
            raise RejectedMessageError(f"{self._endpoint}: a {kind} where a status was due")
        return message

    def _silence(self, waited_s: float) -> str:
        return (
            f"the learner at {self._endpoint} did not answer in {max(waited_s, 0):.0f} s; "
            "does it run, and does its registry hold this operator's key?"
        )


def rolling_greedy(robot: RobotStatus, window: int = 100) -> Proportion:
    """Return the success of the robot's last greedy attempts, as far as the gateway knows them."""
    greedy = [letter for letter in robot.recent if letter in "SF"][-window:]
    return Proportion.of(letter == "S" for letter in greedy)


def rolling_success(robot: RobotStatus, window: int = 100) -> Proportion:
    """Return the success of the robot's last attempts of every mode."""
    finished = [letter for letter in robot.recent if letter in "SFsf"][-window:]
    return Proportion.of(letter in "Ss" for letter in finished)
