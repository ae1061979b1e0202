"""A few robots in one process: for each a bare SUB, and what an agent fetches releases with."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.codec import decode_message
from protocol.messages import (
    WIRE_VERSION,
    Chunk,
    FromReleaseServer,
    ReleaseAnnouncement,
    ReleaseSubscription,
)
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits
from robot_agent.last_good_release import LastGoodRelease
from robot_agent.learner_connection import LearnerConnection
from robot_agent.learner_keys import LearnerKeys
from robot_agent.release_fetcher import ReleaseFetcher
from tests.releases import SIGNING_KEY

Side = Literal["publisher", "release server"]

CHUNK_BYTES = 256 * 2**10
_SUBSCRIBE_EVERY_S = 2.0
_LARGEST_FRAME_BYTES = 5 * 2**20


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where both sides are served, under one CURVE key."""

    publisher: str
    releases: str
    public_key: bytes


class Agent:
    """An agent's connection and release fetcher; notes when a release is here and verified."""

    def __init__(self, servers: Servers, keys: CurveKeys, state: Path, arrived: Arrivals) -> None:
        verify_key: Ed25519PublicKey = SIGNING_KEY.public_key()
        state.mkdir()
        self._arrived = arrived
        self._connection = LearnerConnection(
            servers.releases,
            keys,
            LearnerKeys(servers.public_key, verify_key=verify_key, state_folder=state),
            SocketLimits(frame_bytes=_LARGEST_FRAME_BYTES),
        )
        self._last_good = LastGoodRelease(state / "release")
        self._fetcher = ReleaseFetcher(
            self._connection,
            verify_key=verify_key,
            last_good=self._last_good,
            chunk_bytes=CHUNK_BYTES,
        )
        self._version = 0
        self._subscribe_at = 0.0

    def run(self) -> None:
        """Follow the release server for ever."""
        self._connection.open()
        while True:
            self._subscribe_if_due()
            frames = self._connection.receive(0.2)
            if frames is not None:
                self._handle(decode_message(frames[0], FromReleaseServer), frames[-1])

    def _subscribe_if_due(self) -> None:
        if time.monotonic() < self._subscribe_at:
            return
        message = ReleaseSubscription(have_version=self._version, wire_version=WIRE_VERSION)
        if self._connection.send(message, is_answered=self._version > 0):
            self._subscribe_at = time.monotonic() + _SUBSCRIBE_EVERY_S
            self._fetcher.note_subscription()

    def _handle(self, message: object, body: bytes) -> None:
        if isinstance(message, ReleaseAnnouncement) and message.version > self._version:
            self._fetcher.fetch(message)
        elif isinstance(message, Chunk):
            fetched = self._fetcher.take(message, body)
            if fetched is None:
                return
            self._arrived.note("release server")
            self._version = fetched.announcement.version
            self._last_good.write(fetched.data, fetched.announcement.digest)
            self._subscribe_at = 0.0


class Arrivals:
    """Tells the parent process when something is here."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def note(self, side: Side) -> None:
        """Note an arrival now."""
        now_s = time.monotonic()
        with self._sending:
            self._connection.send((side, now_s))


def run_group(
    servers: Servers, robots: Sequence[CurveKeys], folder: Path, connection: Connection
) -> None:
    """Run robots on both sides, until the process is ended."""
    arrivals = Arrivals(connection)
    for place, keys in enumerate(robots):
        agent = Agent(servers, keys, folder / f"{place}", arrivals)
        threading.Thread(target=agent.run, daemon=True).start()
    _receive_published(servers, robots, arrivals)


def _receive_published(servers: Servers, robots: Sequence[CurveKeys], arrivals: Arrivals) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    for keys in robots:
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.CURVE_SERVERKEY, servers.public_key)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(servers.publisher)
        poller.register(socket, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            if socket.recv():
                arrivals.note("publisher")
