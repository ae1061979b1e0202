"""One message of a robot or an operator, as it came from the wire."""

from __future__ import annotations

import msgspec
import zmq

from protocol.sockets import drop_rest

# A number: pyzmq's own flags, which are enumerations, cost more to use.
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = memoryview(b"")
"""Stands for every body of a message above the first: no kind of message has them."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message and who sent it."""

    routing_id: bytes
    """Where an answer goes; says nothing about who is there."""
    frame: zmq.Frame
    """The header; only a frame, not its bytes, can say which key authenticated it."""
    bodies: list[memoryview]
    """As libzmq holds them: nothing is copied before the store writes it. Two stand for
    any more."""

    @property
    def public_key(self) -> str:
        """The key (Z85) that authenticated the message."""
        return str(self.frame.get("User-Id"))

    @property
    def address(self) -> str:
        """The address that its connection came from."""
        return str(self.frame.get("Peer-Address"))


def receive_envelope(router: zmq.Socket[bytes]) -> Envelope:
    """Return the next message, with an empty body for all above one; raise Again if none came."""
    routing_id = router.recv(_NOBLOCK)
    frame = router.recv(_NOBLOCK, copy=False)
    bodies = []
    if frame.more:
        body = router.recv(_NOBLOCK, copy=False)
        bodies.append(body.buffer)
        if body.more:
            drop_rest(router)
            bodies.append(_MORE)
    return Envelope(routing_id=routing_id, frame=frame, bodies=bodies)
