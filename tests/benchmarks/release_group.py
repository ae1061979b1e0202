"""A few robots in one process: for each a bare SUB, and what an agent fetches releases with.

A program that reads a ``Job`` from its standard input, as one line of JSON, and writes a line for
everything that arrives: which side it came from, when its last byte was here, and when it was kept
(seconds, the system's monotonic clock).
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Literal

import msgspec
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
from robot_agent.learner_connection import LearnerConnection
from robot_agent.learner_keys import LearnerKeys
from robot_agent.releases.fetcher import ReleaseFetcher
from robot_agent.releases.last_good import LastGoodRelease

Side = Literal["publisher", "release server"]

CHUNK_BYTES = 256 * 2**10
_SUBSCRIBE_EVERY_S = 2.0
_LARGEST_FRAME_BYTES = 5 * 2**20


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Which servers to follow, and as whom."""

    publisher: str
    """Endpoint of the PUB."""
    releases: str
    """Endpoint of the release server."""
    server_public: bytes
    """CURVE key of both."""
    verify_key: bytes
    """Ed25519 key that releases are signed with, raw."""
    robots: list[tuple[bytes, bytes]]
    """CURVE keys, public and secret."""
    folder: str
    """For the robots' state; there and empty."""


class Agent:
    """An agent's connection, release fetcher and last good release."""

    def __init__(self, job: Job, keys: CurveKeys, state: Path) -> None:
        verify_key = Ed25519PublicKey.from_public_bytes(job.verify_key)
        state.mkdir()
        self._connection = LearnerConnection(
            job.releases,
            keys,
            LearnerKeys(job.server_public, verify_key=verify_key, state_folder=state),
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
            arrived_s = time.monotonic()
            fetched = self._fetcher.take(message, body)
            if fetched is None:
                return
            self._last_good.write(fetched.data, fetched.announcement.digest)
            note_arrival("release server", arrived_s)
            self._version = fetched.announcement.version
            self._subscribe_at = 0.0


def note_arrival(side: Side, arrived_s: float) -> None:
    """Tell the parent process that something is here, and kept by now."""
    # One call of write: lines of several threads do not mix.
    sys.stdout.write(f"{side},{arrived_s},{time.monotonic()}\n")
    sys.stdout.flush()


def main() -> None:
    job = msgspec.json.decode(sys.stdin.readline(), type=Job)
    robots = [CurveKeys(public=public, secret=secret) for public, secret in job.robots]
    for place, keys in enumerate(robots):
        agent = Agent(job, keys, Path(job.folder) / f"{place}")
        threading.Thread(target=agent.run, daemon=True).start()
    threading.Thread(target=_receive_published, args=(job, robots), daemon=True).start()
    sys.stdin.read()  # until the parent ends


def _receive_published(job: Job, robots: list[CurveKeys]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    for keys in robots:
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.CURVE_SERVERKEY, job.server_public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(job.publisher)
        poller.register(socket, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            if socket.recv():
                note_arrival("publisher", time.monotonic())


if __name__ == "__main__":
    main()
