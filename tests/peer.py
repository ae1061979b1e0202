"""A client of the gateway that says whatever a test wants said."""

from __future__ import annotations

import zmq

from protocol.codec import decode_message, digest, encode_message
from protocol.limits import MAX_STATUS_BYTES
from protocol.messages import WIRE_VERSION, EpisodeSubmission, FromGateway, Hello
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits, connect, make_dealer
from tests.delivery_site import DeliverySite
from tests.waiting import PATIENCE_S

SPOOL = bytes(range(16))


class Peer:
    """A client that says whatever a test wants said."""

    def __init__(self, site: DeliverySite, keys: CurveKeys) -> None:
        self._context = zmq.Context()
        limits = SocketLimits(frame_bytes=MAX_STATUS_BYTES)
        self._socket = make_dealer(self._context, keys, site.server_public(), limits)
        self._socket.setsockopt(zmq.IMMEDIATE, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1e3))
        connect(self._socket, site.endpoint)

    def ask(self, *frames: bytes) -> FromGateway:
        self.send(*frames)
        return self.receive()

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def receive(self) -> FromGateway:
        return decode_message(self._socket.recv(), FromGateway, MAX_STATUS_BYTES)

    def hello(self, name: str, **changes: object) -> FromGateway:
        fields = {
            "wire_version": WIRE_VERSION,
            "software_version": "test",
            "claimed_name": name,
            "spool_id": SPOOL,
            "next_sequence": 1,
        }
        return self.ask(encode_message(Hello(**(fields | changes))))

    def submit(self, sequence: int, record: bytes, claimed: bytes | None = None) -> FromGateway:
        header = EpisodeSubmission(
            spool_id=SPOOL, sequence=sequence, digest=claimed or digest(record)
        )
        return self.ask(encode_message(header), record)

    def submit_only(self, sequence: int, record: bytes) -> None:
        """Send an episode and do not wait for what comes of it."""
        header = EpisodeSubmission(spool_id=SPOOL, sequence=sequence, digest=digest(record))
        self.send(encode_message(header), record)

    def wait_s(self, seconds: float) -> None:
        """Wait so long for answers from now on."""
        self._socket.setsockopt(zmq.RCVTIMEO, int(seconds * 1e3))

    def close(self) -> None:
        self._socket.close()
        self._context.term()
