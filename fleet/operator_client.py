"""One question at a time to the learner, under the operator's key."""

from __future__ import annotations

import time
from collections.abc import Hashable
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import msgspec
import zmq

from protocol.codec import encode_message
from protocol.errors import AuthenticationError, RejectedMessageError, TransientError
from protocol.limits import MAX_STATUS_BYTES
from protocol.messages import Refusal
from protocol.refusal_log import printable
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits, connect, make_dealer

ANSWER_WITHIN_S = 5.0
_LIMITS = SocketLimits(frame_bytes=MAX_STATUS_BYTES)
_Answer = TypeVar("_Answer", bound=msgspec.Struct)
_NOT_ALLOWED = {"not-enrolled", "not-an-operator"}


class OperatorClient:
    """A connection to one of the learner's sockets."""

    def __init__(
        self, endpoint: str, keys: CurveKeys, server_public: bytes, answers: Hashable
    ) -> None:
        """Connect.

        Args:
            endpoint: ``tcp://host:port`` of the gateway or the release server.
            keys: the operator's.
            server_public: the learner's CURVE public key.
            answers: what comes from there, such as ``messages.FromGateway``.
        """
        self._endpoint = endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = make_dealer(self._context, keys, server_public, _LIMITS)
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(cast(Any, answers))
        connect(self._socket, endpoint)

    def ask(
        self, question: msgspec.Struct, answer: type[_Answer], timeout_s: float | None = None
    ) -> _Answer:
        """Return the answer to a question, within ANSWER_WITHIN_S if nothing else is said.

        Raises:
            TransientError: no answer came in time.
            AuthenticationError: the operator's key is refused.
            RejectedMessageError: the question is refused, or what came is no such answer.
        """
        if timeout_s is None:
            timeout_s = ANSWER_WITHIN_S
        deadline = time.monotonic() + timeout_s
        # Answers to questions that were given up on would otherwise be taken for this one.
        while self._socket.poll(0):
            self._socket.recv_multipart()
        self._wait_for(zmq.POLLOUT, deadline, timeout_s)
        try:
            # Never waits: a learner that refuses the key may have closed the connection since.
            self._socket.send(encode_message(question), zmq.NOBLOCK)
        except zmq.Again as error:
            raise self._silence(timeout_s) from error
        self._wait_for(zmq.POLLIN, deadline, timeout_s)
        return self._read(self._socket.recv_multipart()[0], answer)

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

    def _wait_for(self, event: int, deadline: float, timeout_s: float) -> None:
        remaining_ms = max(0, int(1000 * (deadline - time.monotonic())))
        if not self._socket.poll(remaining_ms, event):
            raise self._silence(timeout_s)

    def _silence(self, timeout_s: float) -> TransientError:
        return TransientError(
            f"the learner at {self._endpoint} did not answer in {round(timeout_s, 1):g} s; "
            "does it run, and does its registry hold this operator's key?"
        )

    def _read(self, header: bytes, answer: type[_Answer]) -> _Answer:
        try:
            message = self._decoder.decode(header)
        except msgspec.DecodeError as error:
            why = printable(str(error))
            raise RejectedMessageError(f"{self._endpoint}: malformed answer: {why}") from error
        if isinstance(message, Refusal):
            kind = AuthenticationError if message.code in _NOT_ALLOWED else RejectedMessageError
            raise kind(f"{self._endpoint} refused: {printable(message.reason)}")
        if not isinstance(message, answer):
            due, came = answer.__name__, type(message).__name__
            raise RejectedMessageError(f"{self._endpoint}: a {came} where a {due} was due")
        return message
