"""A connection to one of the learner's sockets that says in words when it is refused."""

from __future__ import annotations

import logging
import math
import time
from contextlib import ExitStack

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from protocol.codec import encode_message
from protocol.errors import ConfigurationError
from protocol.refusal_log import RefusalLog
from protocol.security import CurveKeys
from protocol.sockets import SILENCE_S, SocketLimits, connect, make_dealer
from protocol.wakeup import Wakeup
from robot_agent.learner_keys import LearnerKeys

logger = logging.getLogger(__name__)

RETRY_REFUSED_AFTER_S = 5.0
TRY_OTHER_KEY_AFTER_S = 0.5
CONNECT_ANEW_AFTER_S = 0.2
_LAST_WORDS_MS = 500
_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class LearnerConnection:
    """A DEALER that reconnects by itself. Belongs to one thread.

    Every connection has a socket of its own: what an old one had queued must not go out on a new
    one ahead of the greeting. All of a process share one ZeroMQ context, with its two threads.
    """

    def __init__(
        self,
        endpoint: str,
        keys: CurveKeys,
        learner_keys: LearnerKeys,
        limits: SocketLimits,
        wakeup: Wakeup | None = None,
    ) -> None:
        """Prepare a connection; ``open`` begins it.

        Args:
            endpoint: ``tcp://host:port``.
            keys: the robot's CURVE keys.
            learner_keys: the learner's CURVE public keys.
            limits: of the socket.
            wakeup: ends a ``receive`` early when another thread sets it.
        """
        self._endpoint = endpoint
        self._keys = keys
        self._learner_keys = learner_keys
        self._learner_key = self._key_to_try = learner_keys.in_use
        self._limits = limits
        self._wakeup = wakeup
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._opened = ExitStack()
        self._retry_at: float | None = None
        self._doubts = 0
        self._answer_due_since_s: float | None = None
        self._refusals = RefusalLog(logger)
        self.refusal = ""
        """Why the learner does not let this robot in; "" when it does."""
        self.is_connected = False
        self.connections = 0
        """How often a connection was established."""
        self.silences = 0
        """How often a connection was given up because nothing was answered."""

    def open(self) -> None:
        """Begin to connect; libzmq goes on trying in the background.

        Raises:
            ConfigurationError: the endpoint is malformed.
            ZMQError: this process has too many files open.
        """
        learner_key = self._key_to_try
        with ExitStack() as opened:
            dealer = make_dealer(self._context, self._keys, learner_key, self._limits)
            opened.callback(dealer.close)
            monitor = dealer.get_monitor_socket(
                _FAILURES | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
            )
            opened.callback(monitor.close, linger=0)
            opened.callback(dealer.disable_monitor)
            connect(dealer, self._endpoint)
            # Only now: with a new socket that cannot be had, the old one is better than none.
            self._close_socket()
            self._socket, self._monitor, self._opened = dealer, monitor, opened.pop_all()
            self._learner_key = learner_key
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        if self._wakeup is not None:
            self._poller.register(self._wakeup, zmq.POLLIN)

    def send(self, message: msgspec.Struct, *bodies: bytes, is_answered: bool = True) -> bool:
        """Send a message; return False when there is no connection to send it on.

        Args:
            message: the header.
            bodies: frames behind it.
            is_answered: the learner answers it. When it does not for SILENCE_S, and says nothing
                else either, the connection is made anew.
        """
        if not self.is_connected:
            return False
        try:
            self._socket.send_multipart([encode_message(message), *bodies], zmq.NOBLOCK)
        except zmq.Again:
            return False
        if is_answered and self._answer_due_since_s is None:
            self._answer_due_since_s = time.monotonic()
        return True

    def receive(self, timeout_s: float) -> list[bytes] | None:
        """Return the frames of the next message, or None when none came in time.

        It may return None earlier, when the connection itself had something to do.
        """
        self._refusals.say_counts()
        self._retry_if_silent()
        self._retry_if_due()
        if self._retry_at is not None:
            timeout_s = min(timeout_s, max(0.0, self._retry_at - time.monotonic()))
        # Rounded up: a thread that wakes a moment too early would turn until it is time.
        ready = dict(self._poller.poll(math.ceil(timeout_s * 1e3)))
        if self._wakeup is not None:
            self._wakeup.clear()
        if self._monitor in ready:
            self._note_event()
        if self._socket not in ready:
            return None
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            # It went with its connection.
            return None
        self._answer_due_since_s = None
        return frames

    def move_to(self, endpoint: str) -> None:
        """Leave this server, and connect to another one of the same learner."""
        self._endpoint = endpoint
        self.refusal = ""
        self._doubts = 0
        self._key_to_try = self._learner_keys.in_use
        self._retry_at = time.monotonic()
        self._retry_if_due()

    def close(self) -> None:
        """Disconnect; what was sent last still leaves, if it does so soon."""
        if self.is_connected:
            self._socket.setsockopt(zmq.LINGER, _LAST_WORDS_MS)
        self._close_socket()

    def _note_event(self) -> None:
        event = recv_monitor_message(self._monitor)["event"]
        self.is_connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        self._answer_due_since_s = None
        if self.is_connected:
            self.refusal = ""
            self.connections += 1
            self._retry_at = None
            self._doubts = 0
            self._learner_keys.worked(self._learner_key)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._doubts = 0
            self._say_refused("this robot's key is not enrolled there, or was revoked")
            self._try_again_with(self._learner_key, RETRY_REFUSED_AFTER_S)
        elif event & _FAILURES:
            self._doubt_key()
        elif self._retry_at is None:
            self._try_again_with(self._learner_key, CONNECT_ANEW_AFTER_S)
            # Before libzmq connects this socket again, with all that it has queued.
            self._socket.disconnect(self._endpoint)

    def _doubt_key(self) -> None:
        if self._retry_at is not None:
            return
        # A learner that is just being restarted may look the same: no key is forgotten, and
        # nobody is sent for another one before it has happened twice.
        self._doubts += 1
        other = self._learner_keys.other_than(self._learner_key)
        if self._doubts > 1:
            self._say_refused(
                "it may not be the learner whose public key this robot was given, or its key was "
                f"changed while this robot was off: {self._learner_keys.remedy}"
            )
        elif other != self._learner_key:
            self._say_refused("it does not answer to the key in use; trying the other one known")
        else:
            self._say_refused("it broke off while the connection was being made")
        is_other = other != self._learner_key
        self._try_again_with(other, TRY_OTHER_KEY_AFTER_S if is_other else RETRY_REFUSED_AFTER_S)

    def _try_again_with(self, learner_key: bytes, wait_s: float) -> None:
        if self._retry_at is None:
            self._retry_at = time.monotonic() + wait_s
            self._key_to_try = learner_key

    def _say_refused(self, reason: str) -> None:
        self._say("refuses the connection", reason)

    def _say(self, what: str, reason: str) -> None:
        refusal = f"{self._endpoint} {what}: {reason}"
        if refusal != self.refusal:
            # A link that comes and goes is refused anew each time. A reason of another kind is
            # told however often that was.
            self._refusals.note(
                logging.WARNING, self._endpoint, f"{what}: {reason}", "trying again"
            )
        self.refusal = refusal

    def _retry_if_silent(self) -> None:
        since_s = self._answer_due_since_s
        if since_s is not None and time.monotonic() - since_s > SILENCE_S:
            logger.warning(
                "%s said nothing for %.0f s although an answer is due: connecting anew",
                *(self._endpoint, SILENCE_S),
            )
            self.silences += 1
            self._answer_due_since_s = None
            self._key_to_try = self._learner_key
            self._retry_at = time.monotonic()

    def _retry_if_due(self) -> None:
        # libzmq does not come back to a server that refused the key; a new socket does.
        if self._retry_at is None or time.monotonic() < self._retry_at:
            return
        try:
            self.open()
        except (zmq.ZMQError, ConfigurationError) as error:
            self._say("is out of reach: no new connection can be made", str(error))
            self._retry_at = time.monotonic() + RETRY_REFUSED_AFTER_S
        else:
            self._retry_at = None

    def _close_socket(self) -> None:
        self.is_connected = False
        self._answer_due_since_s = None
        self._opened.close()
