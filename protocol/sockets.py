"""ZeroMQ sockets with every option set before bind or connect, always under CURVE.

libzmq ignores most options on a socket that is already bound or connected, without a word.
"""

from __future__ import annotations

import errno
import logging
import resource
from dataclasses import dataclass

import zmq

from protocol.errors import ConfigurationError
from protocol.limits import HANDSHAKE_MS, MAX_DESCRIPTORS
from protocol.security import CurveKeys

logger = logging.getLogger(__name__)

ZAP_DOMAIN = "graspfleet"

UNCONFIRMED_MS = 20_000
"""TCP gives up a connection whose peer's system has confirmed nothing for so long. A slow link
confirms, a dead one does not: this is what notices a network that is gone."""
PROBE_AFTER_S, PROBE_EVERY_S = 10, 5
"""A connection on which nothing passes is probed by TCP, so that there is something to confirm."""
SILENCE_S = 60.0
"""An agent connects anew when an answer is due for so long, as when something on the way confirms
bytes and drops them. The largest record must pass within it: 8 MiB at 140 kB/s."""
_BACKLOG = 4096
"""Connections that may wait to be accepted, where the system allows as many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SocketLimits:
    """Queue lengths and the largest frame that a socket accepts."""

    frame_bytes: int
    """A peer that sends a larger frame is disconnected."""
    receive_queue: int = 64
    """Messages per peer that wait to be read; then TCP holds the peer back."""
    send_queue: int = 1024
    """Messages per peer that wait to be sent."""


def make_router(
    context: zmq.Context[zmq.Socket[bytes]], keys: CurveKeys, limits: SocketLimits
) -> zmq.Socket[bytes]:
    """Return an unbound ROUTER that admits only clients whose key the ZAP domain accepts."""
    socket = context.socket(zmq.ROUTER)
    _limit(socket, limits)
    # A fleet comes back all at once after a restart; libzmq's own 100 would leave most of it to
    # TCP's slow second tries. The system may allow less (net.core.somaxconn).
    socket.setsockopt(zmq.BACKLOG, _BACKLOG)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    # Without a domain libzmq would not ask the authenticator and let every key in.
    socket.setsockopt_string(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    return socket


def make_dealer(
    context: zmq.Context[zmq.Socket[bytes]],
    keys: CurveKeys,
    server_public: bytes,
    limits: SocketLimits,
) -> zmq.Socket[bytes]:
    """Return an unconnected DEALER that speaks only to the owner of ``server_public``."""
    socket = context.socket(zmq.DEALER)
    _limit(socket, limits)
    # Not IMMEDIATE, although nothing shall be queued for a learner that is not there: with it,
    # libzmq 4.3.5 ends the process when a connection breaks while a message of several frames is
    # being read.
    socket.setsockopt(zmq.RECONNECT_IVL, 200)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 5_000)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, 10_000)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    return socket


def bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind and return the endpoint in use, with the port that ``tcp://host:*`` was given.

    Raises:
        ConfigurationError: the port is in use, or the endpoint is malformed or not of this machine.
    """
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise refusal_to_listen(endpoint, error) from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def refusal_to_listen(endpoint: str, error: zmq.ZMQError | OSError) -> ConfigurationError:
    """Return in words why the system does not let this process listen at an endpoint."""
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"{endpoint}: the port is in use; stop the other process or choose another port"
        )
    return ConfigurationError(f"{endpoint}: cannot listen here: {error.strerror}")


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Start connecting; libzmq goes on trying in the background.

    Raises:
        ConfigurationError: the endpoint is malformed.
    """
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ConfigurationError(
            f"{endpoint}: not an endpoint (tcp://host:port): {error.strerror}"
        ) from error


def drop_rest(socket: zmq.Socket[bytes]) -> None:
    """Receive what is left of a message, and keep nothing: it may have a million frames."""
    more = True
    while more:
        socket.recv(zmq.NOBLOCK)
        more = bool(socket.getsockopt(zmq.RCVMORE))


def raise_descriptor_limit() -> None:
    """Let this process have MAX_DESCRIPTORS open, or as many as the system allows.

    A process that has run out accepts no robot until others' handshakes have timed out. Every
    robot takes one; a few dozen are the process's own.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MAX_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    logger.info("this process may have %d files open, one for each robot's connection", allowed)


def _limit(socket: zmq.Socket[bytes], limits: SocketLimits) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, limits.frame_bytes)
    socket.setsockopt(zmq.RCVHWM, limits.receive_queue)
    socket.setsockopt(zmq.SNDHWM, limits.send_queue)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    # A peer whose network vanished would otherwise look connected for a quarter of an hour. It is
    # not ZeroMQ's heartbeats that notice: libzmq 4.3.5 ends the process when one falls due on a
    # connection that was reset while its input was held back.
    socket.setsockopt(zmq.TCP_MAXRT, UNCONFIRMED_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, PROBE_AFTER_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, PROBE_EVERY_S)
