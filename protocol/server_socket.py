"""The ROUTER that robots connect to: admits enrolled keys only, and is opened anew when it must be.

It must be when the learner's key has changed, and when what peers have sent and nobody can read yet
takes up too much memory. Robots reconnect by themselves and send again what was not acked.
"""

from __future__ import annotations

import logging
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from protocol.errors import ConfigurationError
from protocol.limits import MAX_SERVER_MEMORY_BYTES
from protocol.process_memory import anonymous_bytes, give_back_freed
from protocol.refusal_log import STRANGER, RefusalLog
from protocol.server_key import ServerKey
from protocol.sockets import SocketLimits, bind, make_router
from protocol.wakeup import Wakeup

logger = logging.getLogger(__name__)

_REBIND_WITHIN_S = 5.0
_EVENTS_PER_TURN = 256
_KEY_SETTLES_S = 3.0
"""After a change of the key, robots that knock with the old one first are no strangers."""
_TEND_EVERY_S = 1.0


class ServerSocket:
    """Belongs to one thread."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        key: ServerKey,
        limits: SocketLimits,
        refusals: RefusalLog,
    ) -> None:
        self._context = context
        self._key = key
        self._limits = limits
        self._refusals = refusals
        self._tend_at_s = 0.0
        self._key_settled_s = 0.0
        self._least_memory_bytes = anonymous_bytes()
        self.strangers = 0
        """Connections that ended in the handshake, since they do not know the learner's key."""
        self.emptied = 0
        """How often every connection was dropped for the memory that they took."""

    def open(self, endpoint: str) -> str:
        """Listen; return the endpoint in use.

        Raises:
            ConfigurationError: the port is in use, or the endpoint is malformed.
        """
        self.socket = make_router(self._context, self._key.keys, self._limits)
        try:
            self.endpoint = bind(self.socket, endpoint)
        except BaseException:
            self.socket.close(linger=0)
            raise
        self._monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        return self.endpoint

    def wait(self, timeout_s: float, wakeup: Wakeup, *, for_messages: bool = True) -> bool:
        """Wait for a message, a failed handshake or ``wakeup``; say whether there are messages."""
        poller = zmq.Poller()
        poller.register(wakeup, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        if for_messages:
            poller.register(self.socket, zmq.POLLIN)
        ready = dict(poller.poll(int(timeout_s * 1e3)))
        if self._monitor in ready:
            self._note_strangers()
        return self.socket in ready

    def tend(self, granted_bytes: int = 0) -> None:
        """Look after key and memory; to be called every turn, does something once a second.

        Args:
            granted_bytes: what robots may rightly have under way.

        Raises:
            ConfigurationError: the socket had to be opened anew, but its port was taken meanwhile.
        """
        if time.monotonic() < self._tend_at_s:
            return
        self._tend_at_s = time.monotonic() + _TEND_EVERY_S
        self._refusals.say_counts()
        if self._key.has_changed():
            logger.warning(
                "the learner's key is now %s…; every robot connects anew",
                self._key.keys.public.decode()[:8],
            )
            self._key_settled_s = time.monotonic() + _KEY_SETTLES_S
            self._reopen()
        self._bound_memory(MAX_SERVER_MEMORY_BYTES + granted_bytes)

    def close(self, linger_ms: int = 0) -> None:
        """Stop listening; what is queued goes out within ``linger_ms``."""
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close(linger=linger_ms)

    def _bound_memory(self, limit_bytes: int) -> None:
        now_bytes = anonymous_bytes()
        self._least_memory_bytes = min(self._least_memory_bytes, now_bytes)
        grown_bytes = now_bytes - self._least_memory_bytes
        if grown_bytes <= limit_bytes:
            return
        logger.error(
            "%d MB more memory than at rest exceeds %d MB: all connections at %s are dropped, with "
            "what they sent. An enrolled peer sends messages that never end, or faster than they "
            "can be stored: look for a robot that sends much and delivers nothing, and revoke it",
            *(grown_bytes >> 20, limit_bytes >> 20, self.endpoint),
        )
        self.emptied += 1
        self._reopen()
        give_back_freed()
        # What is not given back is not the socket's: dropping connections again would not help.
        self._least_memory_bytes = anonymous_bytes()

    def _reopen(self) -> None:
        self.close()
        give_up_s = time.monotonic() + _REBIND_WITHIN_S
        while True:
            try:
                self.open(self.endpoint)
            except ConfigurationError:
                # libzmq gives the port back on a thread of its own, some milliseconds later.
                if time.monotonic() >= give_up_s:
                    raise
                time.sleep(0.005)
            else:
                return

    def _note_strangers(self) -> None:
        # Read soon: when its queue of events is full libzmq waits, and every robot with it.
        for _ in range(_EVENTS_PER_TURN):
            if not self._monitor.poll(0):
                return
            recv_monitor_message(self._monitor, zmq.NOBLOCK)
            if time.monotonic() < self._key_settled_s:
                continue
            self.strangers += 1
            self._refusals.warn(
                STRANGER,
                "server-key",
                f"a connection to {self.endpoint} does not know this learner's key: a robot with "
                "the bundle of another learner or from before the key changed (copy server.public "
                "to it), or a program that is no robot",
            )
