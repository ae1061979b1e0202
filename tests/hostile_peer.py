"""A peer that passes the handshake and then means no good. Not a line of ours speaks for it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Self

import msgpack
import zmq

SPOOL = bytes(range(100, 116))


class HostilePeer:
    """A DEALER with an enrolled robot's key, on pyzmq and the reference msgpack alone."""

    def __init__(self, endpoint: str, secret_file: Path, server_file: Path, name: str) -> None:
        self.name = name
        self._sequence = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        secret = secret_file.read_text().split()[1].encode()
        self._socket.curve_secretkey = secret
        self._socket.curve_publickey = zmq.curve_public(secret)
        self._socket.curve_serverkey = server_file.read_text().split()[1].encode()
        self._socket.linger = 0
        self._socket.sndtimeo = self._socket.rcvtimeo = 5_000
        self._socket.connect(endpoint)

    def send(self, *frames: bytes) -> None:
        """Send frames; nothing is said when the gateway does not read them."""
        try:
            self._socket.send_multipart(frames)
        except zmq.Again:
            return

    def send_part(self, part: bytes) -> None:
        """Send a part of a message that goes on."""
        self._socket.send(part, zmq.SNDMORE | zmq.NOBLOCK)

    def say(self, *bodies: bytes, **fields: Any) -> None:
        """Send a header with these fields."""
        self.send(msgpack.packb(fields), *bodies)

    def receive(self) -> dict[str, Any]:
        """Return the next message; an empty one when none comes."""
        try:
            return dict(msgpack.unpackb(self._socket.recv_multipart()[0]))
        except zmq.Again:
            return {}

    def hello(self, **changes: Any) -> None:
        """Say hello as any robot would."""
        fields = {
            "type": "hello",
            "wire_version": 2,
            "software_version": "0",
            "claimed_name": self.name,
            "spool_id": SPOOL,
            "next_sequence": 1,
        }
        self.say(**(fields | changes))

    def greet(self) -> None:
        """Say hello and wait for the welcome."""
        self.hello()
        while (answer := self.receive()) and answer["type"] != "welcome":
            pass
        assert answer, "no welcome"

    def submit(self, record: bytes, **changes: Any) -> None:
        """Deliver whatever it is under the next sequence."""
        self._sequence += 1
        digest = hashlib.sha256(record).digest()
        fields = {
            "type": "episode",
            "spool_id": SPOOL,
            "sequence": self._sequence,
            "digest": digest,
        }
        self.say(record, **(fields | changes))

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
