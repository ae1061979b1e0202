"""A server that says nothing but what a test says for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from protocol.security import CurveKeys


@contextmanager
def silent_server(
    keys: CurveKeys, endpoint: str = "tcp://127.0.0.1:*"
) -> Iterator[zmq.Socket[bytes]]:
    """Let everyone in who knows the public key; yield the socket, for the test to answer on."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = keys.public, keys.secret
        router.bind(endpoint)
        yield router
